"""One verdict from what checks found: only held opens, and what is kept is redacted."""

from __future__ import annotations

import pytest

from engine.coordination.judging import combine, judge
from engine.domain.gate import Check, CheckResult, CommandCheck, ExprCheck, Facts, Sample, Sampling
from engine.domain.journey import Leg, LegKind
from engine.domain.ports import Probe, ProbeAnswer
from engine.domain.runbook import GateStep
from engine.domain.states import Verdict
from tests.doubles.engine import FakeClock

FACTS = Facts(inputs={}, claims={}, digests={})
ROOM = CommandCheck(id="room", target="t", run=("df",), expect="true", sampling=Sampling(count=3, every_s=20))


def gate(*checks: Check) -> Leg:
    step = GateStep(id="g", of="s", checks=checks, fresh_for_s=60)
    return Leg(id="g", kind=LegKind.GATE, step=step, of="s", checks=checks, fresh_for_s=60)


def no_probe(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
    raise AssertionError("nothing is probed here")


def found(verdict: Verdict, *, independent: bool = True) -> CheckResult:
    return CheckResult(
        check_id="c", type="t", definition="d", verdict=verdict, why="w", samples=(), independent=independent
    )


@pytest.mark.parametrize("worst", [Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE])
def test_one_check_that_does_not_hold_keeps_the_gate_shut(worst: Verdict) -> None:
    assert combine((found(Verdict.HELD), found(worst), found(Verdict.HELD)))[0] is worst


def test_a_gate_without_an_independent_check_is_an_error_whatever_it_found() -> None:
    assert combine((found(Verdict.HELD, independent=False),))[0] is Verdict.ERROR


def test_a_gate_without_checks_is_an_error() -> None:
    assert combine(())[0] is Verdict.ERROR


def test_every_sample_must_hold_and_the_wait_between_them_is_real() -> None:
    clock, verdicts = FakeClock(), iter([Verdict.HELD, Verdict.HELD, Verdict.FAILED])

    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
        return Sample(verdict=next(verdicts), why="measured")

    begun = clock.now()
    result = judge(gate(ROOM), FACTS, {"command": measure}, no_probe, clock, lambda: False, str)

    assert result.verdict is Verdict.FAILED
    assert len(result.checks[0].samples) == 3
    assert (clock.now() - begun).total_seconds() > 40


def test_a_kind_that_nobody_knows_is_an_error() -> None:
    assert judge(gate(ROOM), FACTS, {}, no_probe, FakeClock(), lambda: False, str).verdict is Verdict.ERROR


def test_a_stopped_run_is_inconclusive_and_measures_nothing() -> None:
    result = judge(gate(ROOM), FACTS, {}, no_probe, FakeClock(), lambda: True, str)

    assert result.verdict is Verdict.INCONCLUSIVE


def test_evidence_is_redacted_wherever_it_stands() -> None:
    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
        seen = {"body": "it is hunter2", "deep": [{"hunter2": ["hunter2", 7]}]}
        return Sample(verdict=Verdict.HELD, why="saw hunter2", seen=seen)  # type: ignore[arg-type]  # JSON

    check = CommandCheck(id="c", target="t", run=("cat",), expect="true")
    result = judge(
        gate(check),
        FACTS,
        {"command": measure},
        no_probe,
        FakeClock(),
        lambda: False,
        lambda t: t.replace("hunter2", "***"),
    )

    assert "hunter2" not in repr(result)
    assert result.checks[0].samples[0].seen == {"body": "it is ***", "deep": [{"***": ["***", 7]}]}


def test_a_claim_alone_never_opens() -> None:
    claim = ExprCheck(id="c", of="s", expect="true")

    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
        return Sample(verdict=Verdict.HELD, why="I say so")

    assert (
        judge(gate(claim), FACTS, {"expr": measure}, no_probe, FakeClock(), lambda: False, str).verdict is Verdict.ERROR
    )
