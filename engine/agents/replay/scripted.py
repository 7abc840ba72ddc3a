"""A model for a test: a list of turns, or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.agents.replay.conversation import Call, Fault, Request, Turn
from engine.domain.errors import Refused
from engine.domain.gate import Json


def say(text: str, *calls: Call, tokens: tuple[int, int] = (100, 20), cut: bool = False) -> Turn:
    """A turn of text, and of calls. `tokens`: in and out."""
    return Turn(text=text, calls=calls, input_tokens=tokens[0], output_tokens=tokens[1], cut=cut)


def call(name: str, args: Mapping[str, Json], id: str = "") -> Call:  # noqa: A002 - what every vendor calls it
    """A call of a tool; alone in a script it is a turn without text."""
    return Call(name, args, id)


@dataclass(frozen=True)
class ScriptedModel:
    """Says turn after turn of a list, or what a function of the request (so far, neutral form) returns."""

    script: Sequence[Turn | Call | Fault] | Callable[[Request], Turn | Call | Fault]

    def answer(self, request: Request) -> Turn | Fault:
        """The turn after those that the request's history has."""
        said = self.script(request) if callable(self.script) else self._next(self.script, len(request.turns))
        return Turn(calls=(said,)) if isinstance(said, Call) else said

    @staticmethod
    def _next(script: Sequence[Turn | Call | Fault], number: int) -> Turn | Call | Fault:
        if number >= len(script):
            raise Refused(f"the script has {len(script)} turns, and turn {number + 1} was asked for")
        return script[number]
