"""Replays the kind `expr`: what a step printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from engine.domain.gate import ExprCheck, Facts, Json, Sample
from engine.gates import expr
from engine.proving.kinds.port import Answer, Kind, no_probe


class ExprAnswer(Answer):
    """The JSON object of the step's last line; without one it printed none."""

    output: dict[str, Any] | None = None


class Expr(Kind[ExprCheck, ExprAnswer]):
    """The claim is told."""

    answer = ExprAnswer

    def measure(self, check: ExprCheck, facts: Facts, answer: ExprAnswer) -> Sample:
        """See `Kind`."""
        claims = {} if answer.output is None else {check.of: answer.output}
        return expr.measure(check, replace(facts, claims=claims), no_probe)

    def never(self, check: ExprCheck, good: ExprAnswer) -> Iterable[tuple[str, ExprAnswer]]:  # noqa: ARG002 - the port
        """See `Kind`."""
        yield "no output", ExprAnswer()
        yield "an empty output", ExprAnswer(output={})

    def variables(self, check: ExprCheck, good: ExprAnswer) -> Mapping[str, Json]:  # noqa: ARG002 - the port has it
        """See `Kind`."""
        return {"out": good.output}
