"""Replays the kind `log`: the lines that a log has, each dated so long ago as the example says."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from engine.domain.gate import Facts, LogCheck, Sample
from engine.domain.ports import ProbeAnswer
from engine.gates import log
from engine.proving.kinds.port import Answer, Kind

WRONG_S = 3600


class LogAnswer(Answer):
    """Lines without their time, `age` seconds old. `dated: false`: they have none. `skew`: how wrong the clock is."""

    lines: Annotated[list[Annotated[str, Field(max_length=2000)]], Field(max_length=500)] = []  # noqa: RUF012 - copied
    age: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    dated: bool = True
    skew: int = 0
    exit: Annotated[int, Field(ge=0, le=255)] = 0
    unreachable: bool = False


class Log(Kind[LogCheck, LogAnswer]):
    """The probe is told."""

    answer = LogAnswer

    def measure(self, check: LogCheck, facts: Facts, answer: LogAnswer) -> Sample:
        """See `Kind`."""

        def probe(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:  # noqa: ARG001 - the port
            if answer.unreachable:
                return ProbeAnswer(ran=False, code=None, stdout="", stderr="", reason="no route to the target")
            now = time.time()
            stamp = f"{now - answer.age:.3f} " if answer.dated else ""
            text = "".join(f"{stamp}{line}\n" for line in answer.lines)
            return ProbeAnswer(ran=True, code=answer.exit, stdout=f"{int(now) + answer.skew}\n{text}", stderr="")

        return log.measure(check, facts, probe)

    def never(self, check: LogCheck, good: LogAnswer) -> Iterable[tuple[str, LogAnswer]]:
        """Silence is no data, in whatever form."""
        yield "it could not be run", LogAnswer(unreachable=True)
        yield "another exit code", good.model_copy(update={"exit": 1})
        yield "no line at all", good.model_copy(update={"lines": []})
        yield "no line since then", good.model_copy(update={"age": check.within_s + 5})
        yield "a clock that is wrong", good.model_copy(update={"skew": WRONG_S})
        yield "lines without a time", good.model_copy(update={"dated": False})

    def broken(self, check: LogCheck) -> Iterator[tuple[str, LogCheck]]:
        """A pattern is not looked for, or what was long ago is good enough."""
        for name in ("present", "absent"):
            patterns: tuple[str, ...] = getattr(check, name)
            for pattern in patterns:
                yield f"{name}: without {pattern}", _without(check, name, pattern)
        yield f"within: {check.within_s * 2}s", replace(check, within_s=check.within_s * 2)


def _without(check: LogCheck, name: str, pattern: str) -> LogCheck:
    rest: dict[str, Any] = {name: tuple(one for one in getattr(check, name) if one != pattern)}
    return replace(check, **rest)
