"""How a check is measured: with its control, over its time, in shadow, in a quorum. No data never holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import pytest

from engine.coordination.judging import combine, judge
from engine.coordination.measuring import Measuring
from engine.domain.gate import (
    Check,
    CheckResult,
    CommandCheck,
    ExprCheck,
    Facts,
    GateResult,
    HttpCheck,
    LogCheck,
    NoData,
    PromqlCheck,
    QuorumCheck,
    Sample,
    Sampling,
    SqlCheck,
    definition,
)
from engine.domain.journey import Leg
from engine.domain.ports import GateKinds, Measure, Probe
from engine.domain.states import Verdict
from engine.domain.within import guaranteed
from tests.doubles.engine import FakeClock
from tests.unit.coordination.test_judging import FACTS, gate, no_probe

HELD, FAILED, ERROR, UNSURE = Verdict.HELD, Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE
ROOM = CommandCheck(id="room", target="t", run=("df",), expect="true")
SEES = CommandCheck(id="room", target="t", run=("cat", "/planted"), expect="out == 'x'")
UP = HttpCheck(id="up", target="t", path="/", expect="true")
RATE = PromqlCheck(id="rate", target="t", query="q", expect="true")
SAYS = ExprCheck(id="says", of="s", expect="true")


class Kinds(dict[str, Measure]):
    """Finds for each question, by its definition, what a test says; remembers what was asked, in order."""

    def __init__(self, *found: tuple[Check, Verdict]) -> None:
        self.found = {definition(check): verdict for check, verdict in found}
        self.asked: list[str] = []
        super().__init__({check.type: self.measure for check, _ in found})

    def measure(self, check: Check, facts: Facts, probe: Probe) -> Sample:
        self.asked.append(check.id)
        return Sample(verdict=self.found[definition(check)], why=f"{check.id} was asked", seen={"id": check.id})


def measured(check: Check, kinds: GateKinds, facts: Facts = FACTS, clock: FakeClock | None = None) -> CheckResult:
    clock = clock or FakeClock()
    measuring = Measuring(facts=facts, kinds=kinds, probe=no_probe, clock=clock, stopped=lambda: False)
    return measuring.check(check)


def judged(leg: Leg, *found: tuple[Check, Verdict]) -> GateResult:
    return judge(leg, FACTS, Kinds(*found), no_probe, FakeClock(), lambda: False, str)


# -- controls


def test_a_check_whose_control_sees_is_judged_by_itself() -> None:
    check = replace(ROOM, control=SEES)

    for verdict in Verdict:
        assert measured(check, Kinds((check, verdict), (SEES, HELD))).verdict is verdict


@pytest.mark.parametrize("blind", [FAILED, ERROR, UNSURE])
@pytest.mark.parametrize("verdict", [HELD, FAILED])
def test_a_check_whose_control_does_not_see_is_inconclusive(blind: Verdict, verdict: Verdict) -> None:
    """Neither held nor failed: what cannot see the planted signal saw nothing at all."""
    check = replace(ROOM, control=SEES)
    kinds = Kinds((check, verdict), (SEES, blind))
    result = measured(check, kinds)

    assert (result.verdict, kinds.asked) == (UNSURE, ["room"]), "and the check itself is not asked"
    assert result.why == "the control did not see what it must see: room was asked"


def test_a_control_that_raises_is_blind() -> None:
    check = replace(ROOM, control=SEES)

    assert measured(check, Kinds((check, HELD))).verdict is UNSURE


def test_no_data_of_a_control_is_no_failure_of_the_check() -> None:
    check = SqlCheck(id="q", target="t", query="a", expect="true", no_data=NoData.FAIL)
    check = replace(check, control=replace(check, query="b"))

    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
        return Sample(verdict=UNSURE, why="no rows", no_data=True)

    assert measured(check, {"sql": measure}).verdict is UNSURE


def test_every_sample_has_a_control_before_it_and_keeps_what_it_saw() -> None:
    check = replace(ROOM, control=SEES, sampling=Sampling(count=2, every_s=1))
    kinds = Kinds((check, HELD), (SEES, HELD))
    result = measured(check, kinds)

    assert (result.verdict, len(kinds.asked)) == (HELD, 4)
    assert result.samples[1].seen == {"id": "room", "control": {"id": "room"}}


# -- no data


@pytest.mark.parametrize(("rule", "verdict"), [(NoData.INCONCLUSIVE, UNSURE), (NoData.FAIL, FAILED)])
@pytest.mark.parametrize("claimed", list(Verdict))
def test_no_data_never_holds_whatever_a_kind_says(rule: NoData, verdict: Verdict, claimed: Verdict) -> None:
    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
        return Sample(verdict=claimed, why="nothing", no_data=True)

    assert measured(replace(RATE, no_data=rule), {"promql": measure}).verdict is verdict


def test_what_could_not_be_measured_is_not_called_a_failure() -> None:
    """A Prometheus that is down says nothing about the service."""
    check = replace(RATE, no_data=NoData.FAIL)

    assert measured(check, Kinds((check, UNSURE))).verdict is UNSURE


# -- time


@pytest.mark.parametrize("check", [replace(RATE, for_s=60), LogCheck(id="l", target="t", run=("x",), for_s=60)])
def test_a_time_since_the_change_is_waited_for(check: Check) -> None:
    clock = FakeClock()
    changed = clock.now()
    at: list[datetime] = []

    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
        at.append(clock.now())
        return Sample(verdict=HELD, why="w")

    measured(check, {check.type: measure}, replace(FACTS, changed_at=changed), clock)
    assert 59 < (at[0] - changed).total_seconds() < 62

    measured(check, {check.type: measure}, FACTS, clock)
    assert (at[1] - at[0]).total_seconds() < 1, "without a change the time before is looked at"


def test_a_wait_ends_when_the_run_is_stopped_and_nothing_is_measured() -> None:
    clock = FakeClock()
    begun = clock.now()
    looks: Iterable[bool] = iter([False, False, True, True])
    measuring = Measuring(
        facts=replace(FACTS, changed_at=begun),
        kinds=Kinds(),
        probe=no_probe,
        clock=clock,
        stopped=lambda: next(looks),  # type: ignore[call-overload]  # an iterator
    )

    assert measuring.check(replace(RATE, for_s=3600)).verdict is UNSURE
    assert (clock.now() - begun).total_seconds() < 10


def test_no_samples_are_no_reason_to_hold() -> None:
    assert measured(replace(ROOM, sampling=Sampling(count=0)), Kinds((ROOM, HELD))).verdict is ERROR


def test_a_gate_without_a_change_knows_when_its_measuring_began() -> None:
    began: list[datetime | None] = []

    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
        began.append(facts.begun_at)
        return Sample(verdict=HELD, why="w")

    for facts in (FACTS, replace(FACTS, begun_at=datetime(2026, 1, 1).astimezone())):
        judge(gate(ROOM), facts, {"command": measure}, no_probe, FakeClock(), lambda: False, str)

    assert began[0] is not None
    assert began[1] == datetime(2026, 1, 1).astimezone()


# -- shadow


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_check_in_shadow_is_told_and_neither_opens_nor_closes(verdict: Verdict) -> None:
    shadow = replace(UP, id="new")
    open_, shut = replace(gate(ROOM), shadow=(shadow,)), replace(gate(SAYS), shadow=(shadow,))
    result = judged(open_, (ROOM, HELD), (shadow, verdict))

    assert result.verdict is HELD
    assert result.why == f"all 1 checks held; in shadow, new {verdict}: new was asked"
    assert [check.shadow for check in result.checks] == [False, True]
    assert judged(open_, (ROOM, FAILED), (shadow, HELD)).verdict is FAILED
    assert judged(shut, (SAYS, HELD), (shadow, HELD)).verdict is ERROR, "it does not make a claim independent"


def test_a_gate_of_shadows_never_opens() -> None:
    leg = replace(gate(), shadow=(ROOM, UP))

    assert judged(leg, (ROOM, HELD), (UP, HELD)).verdict is ERROR
    assert combine(())[0] is ERROR


# -- quorum

TWO = QuorumCheck(id="two", need=2, checks=(ROOM, UP, RATE))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((HELD, HELD, HELD), HELD),
        ((HELD, HELD, FAILED), HELD),
        ((ERROR, HELD, HELD), HELD),
        ((HELD, UNSURE, HELD), HELD),
        ((HELD, FAILED, UNSURE), FAILED),
        ((HELD, UNSURE, ERROR), ERROR),
        ((HELD, UNSURE, UNSURE), UNSURE),
        ((FAILED, FAILED, FAILED), FAILED),
    ],
)
def test_a_quorum_needs_its_number(found: tuple[Verdict, ...], verdict: Verdict) -> None:
    kinds = Kinds(*zip(TWO.checks, found, strict=True))
    result = measured(TWO, kinds)

    assert result.verdict is verdict
    assert kinds.asked == ["room", "up", "rate"], "all are measured, whatever the first ones found"
    assert isinstance(result.samples[0].seen, dict)
    assert set(result.samples[0].seen) == {"room", "up", "rate"}


def test_claims_never_count_in_a_quorum() -> None:
    """The hole of the prototype: two claims held, the one independent check failed, and the gate opened."""
    quorum = QuorumCheck(id="two", need=2, checks=(SAYS, replace(SAYS, id="too", expect="1 == 1"), ROOM))
    found = [(check, FAILED if check is ROOM else HELD) for check in quorum.checks]
    found_all = [(check, HELD) for check in quorum.checks]

    assert measured(quorum, Kinds(*found)).verdict is FAILED
    assert measured(quorum, Kinds(*found_all)).verdict is not HELD
    assert measured(replace(quorum, need=1), Kinds(*found_all)).verdict is HELD


def test_one_question_asked_twice_counts_once() -> None:
    quorum = QuorumCheck(id="two", need=2, checks=(ROOM, replace(ROOM, id="again"), UP))
    found = [(check, FAILED if check is UP else HELD) for check in quorum.checks]

    assert measured(quorum, Kinds(*found)).verdict is FAILED


@pytest.mark.parametrize("need", [0, -1, 4])
def test_a_quorum_of_an_impossible_number_never_holds(need: int) -> None:
    kinds = Kinds(*[(check, HELD) for check in TWO.checks])

    assert measured(replace(TWO, need=need), kinds).verdict is ERROR


def test_a_quorum_is_independent_only_when_it_holds_and_opens_a_gate_alone() -> None:
    assert judged(gate(TWO), *[(check, HELD) for check in TWO.checks]).verdict is HELD
    assert not measured(TWO, Kinds((ROOM, HELD), (UP, FAILED), (RATE, FAILED))).independent


def test_a_stopped_run_stops_a_quorum() -> None:
    stopped = judge(gate(TWO), FACTS, Kinds(), no_probe, FakeClock(), lambda: True, str)

    assert stopped.verdict is UNSURE


# -- what a gate's checks guarantee


def off_host(check: Check) -> bool:
    return not isinstance(check, CommandCheck)


def test_what_a_quorum_may_do_without_is_not_guaranteed() -> None:
    assert guaranteed((ROOM, UP), off_host)
    assert not guaranteed((ROOM,), off_host)
    assert guaranteed((TWO,), off_host), "one of two that hold is up or rate"
    assert not guaranteed((replace(TWO, need=1),), off_host)
    assert not guaranteed((replace(TWO, checks=(ROOM, SEES, UP)),), off_host)


def test_the_digest_of_a_definition_is_that_of_before_the_new_fields() -> None:
    """Recorded evidence names definitions by it; a field that says nothing must not change it, one that says must."""
    assert definition(ROOM) == "sha256:a905fe15c31bd064972438a26f380e1bbd496bb6fa99bc744980caad42109f8b"
    assert definition(replace(ROOM, control=SEES)) != definition(ROOM)
    assert definition(replace(RATE, no_data=NoData.FAIL)) != definition(RATE)
    assert definition(replace(RATE, for_s=1)) != definition(RATE)
