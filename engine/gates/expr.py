"""Gate kind `expr`: a condition over what a step itself printed. A claim, so never independent. Called by `kinds()`."""

from __future__ import annotations

from engine.domain.gate import Check, ExprCheck, Facts, Json, Sample
from engine.domain.ports import Probe
from engine.domain.states import Verdict
from engine.gates import evidence
from engine.gates.condition import evaluate, judge


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:  # noqa: ARG001 - the port has it
    """Judge a step's output. No output, or `unless` true, is INCONCLUSIVE."""
    if not isinstance(check, ExprCheck):
        return Sample(verdict=Verdict.ERROR, why="not an expr check")
    if check.of not in facts.claims:
        return Sample(verdict=Verdict.INCONCLUSIVE, why=f"step {check.of} printed no output", no_data=True)
    claim = facts.claims[check.of]
    seen: Json = {"out": evidence.bounded(claim)}
    variables: dict[str, Json] = {"out": claim}
    if check.unless is not None:
        try:
            excused = evaluate(check.unless, variables)
        except ValueError as error:
            return Sample(verdict=Verdict.ERROR, why=f"{check.unless}: {error}", seen=seen)
        if excused:
            return Sample(verdict=Verdict.INCONCLUSIVE, why=f"{check.of} itself says: {check.unless}", seen=seen)
    return judge(check.expect, variables, seen)
