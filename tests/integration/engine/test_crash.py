"""The process dies somewhere; another one starts on the same database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.domain.errors import Unavailable
from engine.domain.ports import TaskResult
from engine.domain.states import AttemptState, Decision, RunState, Verdict
from tests.doubles.engine import ended
from tests.integration.engine.conftest import ANA, Box


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing after it runs."""


def die() -> TaskResult:
    raise Killed


def die_in(box: Box, leg: str) -> None:
    """Drive until the process dies in this leg."""
    box.hypervisor.behaviour[leg] = die
    with pytest.raises(Killed):
        box.go()
    del box.hypervisor.behaviour[leg]


def test_a_change_whose_worker_died_is_unknown_and_never_run_again_by_itself(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    die_in(box, "production")
    box.restart()
    box.go()

    run = box.run()
    assert run.attempts[-1].state is AttemptState.UNKNOWN
    assert run.state is RunState.HALTED
    assert "Outcome unknown" in run.escalations[-1].why
    assert box.hypervisor.ran.count("production") == 1
    assert Decision.ROLL_BACK in run.escalations[-1].options


def test_an_idempotent_step_whose_worker_died_is_retried_by_itself(box: Box) -> None:
    box.fire()
    die_in(box, "diagnose")
    box.restart()
    box.go()

    assert [attempt.state for attempt in box.run().attempts[:2]] == [AttemptState.LOST, AttemptState.FINISHED]
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_a_crash_while_measuring_measures_once_anew_then_it_is_inconclusive(box: Box) -> None:
    def die_measuring(check_id: str) -> None:
        if check_id == "confirmed-inside":
            raise Killed

    box.gates.before_each = die_measuring
    box.fire()
    for _ in range(2):
        with pytest.raises(Killed):
            box.go()
        box.restart()
    box.go()

    assert box.run().state is RunState.HALTED
    assert "died twice" in box.run().escalations[-1].why
    assert box.run().verdicts == ()


def test_one_crash_while_measuring_is_survived(box: Box) -> None:
    crashes = iter([True])

    def die_once(check_id: str) -> None:
        if check_id == "confirmed-inside" and next(crashes, False):
            raise Killed

    box.gates.before_each = die_once
    box.fire()
    with pytest.raises(Killed):
        box.go()
    box.restart()
    box.go()

    assert box.run().state is RunState.AWAITING_APPROVAL


def test_a_late_result_is_kept_as_evidence_and_moves_nothing(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    old = box.driver

    def outlive_the_takeover() -> TaskResult:
        box.restart()
        return ended()

    box.hypervisor.behaviour["production"] = outlive_the_takeover
    old.drive(box.run().id)

    run = box.run()
    assert run.state is RunState.HALTED
    assert run.attempts[-1].state is AttemptState.UNKNOWN
    assert "late_result_kept" in [event.kind for event in box.incident().events]
    assert run.verdicts[-1].leg == "tests-pass"


def test_abandoning_a_running_step_destroys_its_vm_and_ends_definitely(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)

    def be_abandoned() -> TaskResult:
        box.service.abandon(1, ANA, "stop it")
        return ended()

    box.hypervisor.behaviour["production"] = be_abandoned
    box.go()

    run = box.run()
    assert run.state is RunState.ABANDONED
    assert box.hypervisor.destroyed == [run.attempts[-1].id]
    assert run.attempts[-1].state is AttemptState.UNKNOWN


def test_abandoning_while_a_gate_measures_leaves_the_verdict_as_evidence_only(box: Box) -> None:
    def abandon(check_id: str) -> None:
        if check_id == "confirmed-inside":
            box.service.abandon(1, ANA, "stop it")

    box.gates.before_each = abandon
    box.fire()
    box.go()

    assert box.run().state is RunState.ABANDONED
    assert "late_verdict_kept" in [event.kind for event in box.incident().events]
    assert box.run().verdicts[-1].verdict in {Verdict.HELD, Verdict.INCONCLUSIVE}


def test_nothing_is_driven_before_the_leftovers_are_gone(box: Box) -> None:
    box.fire()
    box.hypervisor.down = Unavailable("libvirt does not answer", "start libvirtd")
    assert not box.worker.reaper.recover()

    assert box.worker.reaper.unwell["recovery"].startswith("libvirt does not answer")
    assert box.run().attempts == ()
    box.hypervisor.down = None
    assert box.worker.reaper.recover()
    assert box.worker.unwell == {}


def test_an_idempotent_step_that_kills_its_worker_again_and_again_is_not_retried_for_ever(box: Box) -> None:
    box.fire()
    for _ in range(3):
        die_in(box, "diagnose")
        box.restart()
    box.go()

    assert [attempt.state for attempt in box.run().attempts] == [AttemptState.LOST] * 2 + [AttemptState.UNKNOWN]
    assert box.run().state is RunState.HALTED


def test_output_that_no_database_would_take_is_kept_readable(box: Box) -> None:
    box.hypervisor.behaviour["diagnose"] = lambda: replace(ended(code=1, reason="bad \x00 end"), stdout="a\x00b")
    box.fire()
    box.go()

    assert box.run().attempts[-1].stdout == "a\ufffdb"
    assert box.run().state is RunState.HALTED


def test_a_defect_while_a_result_is_written_ends_in_a_question_and_not_in_silence(box: Box) -> None:
    """The run's own thread breaks: nobody drives it any more, so it is as if its worker had died."""
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.hypervisor.behaviour["production"] = lambda: replace(ended(), stdout=7)  # type: ignore[arg-type]  # a defect
    box.driver._drive_safely(box.run().id)

    assert box.run().attempts[-1].state is AttemptState.UNKNOWN
    assert box.run().state is RunState.HALTED
