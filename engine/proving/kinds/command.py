"""Replays the kind `command`: what the verifier's command printed, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from engine.domain.gate import CommandCheck, Facts, Json, Parse, Sample
from engine.domain.ports import ProbeAnswer
from engine.gates import command, parsing
from engine.proving.kinds.port import Answer, Kind

STRUCTURED = frozenset({Parse.INT, Parse.PERCENT, Parse.JSON})


class CommandAnswer(Answer):
    """How the command ended. `unreachable`: it could not be run."""

    exit: Annotated[int, Field(ge=0, le=255)] = 0
    stdout: Annotated[str, Field(max_length=2 * parsing.MAX_OUTPUT)] = ""
    stderr: Annotated[str, Field(max_length=2000)] = ""
    unreachable: bool = False


class Command(Kind[CommandCheck, CommandAnswer]):
    """The probe is told."""

    answer = CommandAnswer

    def measure(self, check: CommandCheck, facts: Facts, answer: CommandAnswer) -> Sample:
        """See `Kind`."""

        def probe(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:  # noqa: ARG001 - the port
            if answer.unreachable:
                return ProbeAnswer(ran=False, code=None, stdout="", stderr="", reason="no route to the target")
            return ProbeAnswer(ran=True, code=answer.exit, stdout=answer.stdout, stderr=answer.stderr)

        return command.measure(check, facts, probe)

    def never(self, check: CommandCheck, good: CommandAnswer) -> Iterable[tuple[str, CommandAnswer]]:
        """A command whose right answer is silence may be silent; else no output is no data."""
        yield "it could not be run", CommandAnswer(unreachable=True)
        yield "another exit code", good.model_copy(update={"exit": (check.code + 1) % 256})
        yield "more output than is read", good.model_copy(update={"stdout": "9" * (parsing.MAX_OUTPUT + 1)})
        if good.stdout:
            yield "no output", good.model_copy(update={"stdout": ""})
        if check.parse in STRUCTURED:
            yield "output that does not parse", good.model_copy(update={"stdout": f"{good.stdout}\n{{?\n1%\n2%\n"})

    def variables(self, check: CommandCheck, good: CommandAnswer) -> Mapping[str, Json]:
        """See `Kind`."""
        return {"out": parsing.parse(good.stdout, check.parse), "code": good.exit}

    def broken(self, check: CommandCheck) -> Iterator[tuple[str, CommandCheck]]:
        """Another exit code is right, or the output is read in another way."""
        code = (check.code + 1) % 256
        yield f"code: {code}", replace(check, code=code)
        for parse in Parse:
            if parse is not check.parse:
                yield f"parse: {parse}", replace(check, parse=parse)
