"""What is said to a model and by it, in no vendor's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from engine.domain.gate import Json


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model wants called. An empty `id` is filled in by the server: `call_TURN_NUMBER`, from 1."""

    name: str
    args: Mapping[str, Json]
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a model says in one answer. `cut`: it came to its limit of tokens. Tokens are those of this one request."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    input_tokens: int = 100
    output_tokens: int = 20
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer that is an error, as a provider has them: 429, 500, 529."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class UserSaid:
    """A message of the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What a tool answered to a call."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a model is asked. `instructions`: the system prompt. `body`: the request as it came, for who passes it on.

    `counted`: the client wants the usage of a streamed answer (only OpenAI's chat leaves the choice).
    """

    model: str
    instructions: str
    history: tuple[UserSaid | Answered | Turn, ...]
    tools: tuple[str, ...]
    stream: bool
    body: bytes
    counted: bool = True

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What the model said so far."""
        return tuple(entry for entry in self.history if isinstance(entry, Turn))

    @property
    def latest(self) -> tuple[UserSaid | Answered, ...]:
        """What was said to the model since it spoke last."""
        latest: list[UserSaid | Answered] = []
        for entry in reversed(self.history):
            if isinstance(entry, Turn):
                break
            latest.insert(0, entry)
        return tuple(latest)


class Model(Protocol):
    """Whoever answers. It keeps nothing: where a conversation stands is in the request's own history."""

    def answer(self, request: Request) -> Turn | Fault:
        """Raises SignalboxError when there is no answer to this; the client gets its text as an error."""


def with_ids(turn: Turn, number: int) -> Turn:
    """The turn, each of its calls with an id. `number`: which turn of the conversation it is, from 1."""
    calls = (
        call if call.id else replace(call, id=f"call_{number}_{place}")
        for place, call in enumerate(turn.calls, start=1)
    )
    return replace(turn, calls=tuple(calls))
