"""What must not hang, repeat itself or go unsaid when something around a run breaks. Each was seen red."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from engine.domain.alert import Severity
from engine.domain.directory import Directory
from engine.domain.errors import BadInput, Conflict, NotAllowed, Unavailable
from engine.domain.gate import Check, CommandCheck, HttpCheck
from engine.domain.ports import Ending, TaskResult
from engine.domain.runbook import GateStep, Runbook, ScriptStep, Step
from engine.domain.states import AttemptState, Decision, RunState, Verdict
from engine.store import models, runs
from engine.store.session import Database, Session
from tests.doubles.engine import ended
from tests.integration.engine.conftest import ANA, BEN, Box


class Killed(BaseException):
    """What kill -9 looks like from inside."""


def look_up(box: Box, directory: Callable[[], Directory]) -> None:
    """From now on the directory is read like this."""
    adapters = replace(box.adapters, directory=directory)
    box.driver.adapters = box.driver.running.adapters = adapters


def sweep(box: Box, **between: float) -> None:
    """A few rounds of the sweep, as they would come."""
    for _ in range(3):
        box.round()
        box.go()
        box.clock.pass_time(**between)


def broken_sites() -> Directory:
    raise BadInput("sites.yaml: expected ':' in line 4")


def test_a_typo_in_the_sites_file_does_not_cost_what_an_attempt_came_to(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)

    def change_and_break() -> TaskResult:
        look_up(box, broken_sites)
        return ended()

    box.hypervisor.behaviour["production"] = change_and_break
    box.driver._drive_safely(box.run().id)
    assert box.run().attempts[-1].state is AttemptState.FINISHED
    assert "sites.yaml" in box.run().waits_for

    look_up(box, lambda: box.directory)
    sweep(box)
    assert box.run().state is RunState.COMPLETED


def test_a_typo_in_the_sites_file_while_a_gate_begins_is_an_error_of_the_gate(box: Box) -> None:
    box.fire()
    reads = iter(range(100))

    def third_time_broken() -> Directory:
        return broken_sites() if next(reads) == 2 else box.directory

    look_up(box, third_time_broken)
    box.driver._drive_safely(box.run().id)

    assert box.run().state is RunState.HALTED
    assert box.run().verdicts[-1].verdict is Verdict.ERROR


def test_a_defect_before_a_leg_is_told(box: Box) -> None:
    box.fire()

    def defect() -> Directory:
        raise ValueError("Port out of range 0-65535")

    look_up(box, defect)
    box.driver._drive_safely(box.run().id)

    assert box.run().state is RunState.HALTED
    assert "Port out of range" in box.run().escalations[-1].why


def test_a_rehearsal_is_not_rehearsed_again_because_its_gate_grew_stale(box: Box) -> None:
    box.fire()
    once = iter([True])

    def lose_vault() -> TaskResult:
        if next(once, False):
            box.secrets.down = Unavailable("Vault is down")
        return ended()

    box.hypervisor.behaviour["staging:rehearse"] = lose_vault
    box.go()
    box.clock.pass_time(minutes=31)
    box.secrets.down = None
    box.go()

    assert box.hypervisor.ran.count("staging:rehearse") == 1


def to_failed_production(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.gates.verdicts["healthy-inside"] = Verdict.FAILED
    box.go()
    assert box.run().state is RunState.HALTED


def test_a_rollback_that_waited_past_the_deadline_can_be_retried(box: Box) -> None:
    to_failed_production(box)
    box.secrets.down = Unavailable("Vault is down")
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.ROLL_BACK)
    box.go()
    box.clock.pass_time(hours=2)
    box.secrets.down = None
    box.go()
    assert box.run().state is RunState.HALTED
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    assert box.run().state is RunState.ROLLED_BACK


def test_an_approval_that_a_halt_left_behind_does_not_block_the_rollback(box: Box) -> None:
    to_failed_production(box)
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()
    box.secrets.down = Unavailable("Vault is down")
    box.service.approve(box.run().approvals[-1].token, ANA, yes=True)
    box.go()
    box.clock.pass_time(hours=2)
    box.secrets.down = None
    box.go()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.ROLL_BACK)
    box.go()

    assert "production:rollback" in box.hypervisor.ran


def test_a_question_is_not_open_longer_than_its_evidence_is_good(box: Box) -> None:
    steps = tuple(replace(s, fresh_for_s=600) if isinstance(s, GateStep) else s for s in box.shelf.runbook.steps)
    box.shelf.runbook = replace(box.shelf.runbook, steps=steps)
    token = box.until_approval()
    box.clock.pass_time(minutes=15)

    with pytest.raises(Conflict, match="expired"):
        box.service.approve(token, ANA, yes=True)


def die_measuring(box: Box, check_id: str) -> None:
    """The worker dies twice while this check is measured."""

    def die(measured: str) -> None:
        if measured == check_id:
            raise Killed

    box.gates.before_each = die
    for _ in range(2):
        with pytest.raises(Killed):
            box.go()
        box.restart()
    box.gates.before_each = lambda _check_id: None
    box.go()
    assert box.run().state is RunState.HALTED


def test_retry_after_two_deaths_while_measuring_measures_and_does_not_change_staging_again(box: Box) -> None:
    box.fire()
    die_measuring(box, "tests-inside")
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    assert box.hypervisor.ran.count("staging") == 1


def test_retry_after_two_deaths_while_measuring_production_measures_it(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    die_measuring(box, "healthy-inside")
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    assert box.run().state is RunState.COMPLETED
    assert box.hypervisor.ran.count("production") == 1


OTHER_NAMES = {"staging": "stage", "production": "prod"}


def renamed(runbook: Runbook) -> Runbook:
    """The same hosts by other names."""

    def check(one: Check) -> Check:
        return replace(one, target=OTHER_NAMES[one.target]) if isinstance(one, CommandCheck | HttpCheck) else one

    def step(one: Step) -> Step:
        if isinstance(one, GateStep):
            return replace(one, checks=tuple(map(check, one.checks)))
        if not isinstance(one, ScriptStep):
            return one
        undo = replace(one.rollback, checks=tuple(map(check, one.rollback.checks))) if one.rollback else None
        return replace(one, target=OTHER_NAMES[one.target] if one.target else None, rollback=undo)

    targets = {new: replace(runbook.targets[old], name=new) for old, new in OTHER_NAMES.items()}
    steps = tuple(map(step, runbook.steps))
    return replace(runbook, alertnames=("OtherBroken",), targets=targets, steps=steps)


def test_a_lock_is_on_the_host_whatever_a_runbook_calls_it(box: Box) -> None:
    box.until_approval()
    box.shelf.runbook = renamed(box.shelf.runbook)
    box.fire(b"OtherBroken firing")
    box.driver.drive(box.run().id)

    assert box.run().state is RunState.QUEUED
    assert "incident 1" in box.run().waits_for


def test_who_declared_the_incident_does_not_approve_its_change(box: Box) -> None:
    view = box.service.declare(ANA, "disk is filling", Severity.CRITICAL, None)
    assert view.choose_token is not None
    box.service.choose_runbook(view.choose_token, BEN, "toy")
    box.go()

    with pytest.raises(NotAllowed):
        box.service.approve(box.run().approvals[-1].token, ANA, yes=True)


def test_a_start_whose_answer_was_lost_is_found_by_the_sweep(box: Box) -> None:
    box.fire()
    real = box.database.transaction
    armed: Iterator[bool] = iter([True])

    @contextlib.contextmanager
    def forgetful(_self: Database) -> Iterator[Session]:
        with real() as session:
            yield session
        with box.database.reading() as session:
            running = bool(runs.ids_in(session, [RunState.RUNNING]))
        if running and next(armed, False):
            raise Unavailable("server closed the connection unexpectedly")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "transaction", forgetful)
        box.driver._drive_safely(box.run().id)
    assert box.run().state is RunState.RUNNING
    sweep(box)

    assert box.run().state is RunState.AWAITING_APPROVAL


def test_a_start_while_libvirt_is_down_is_said(box: Box) -> None:
    box.until_approval()
    box.hypervisor.down = Unavailable("libvirt does not answer")
    box.shelf.runbook = replace(box.shelf.runbook, alertnames=("OtherBroken",))
    box.fire(b"OtherBroken firing")
    assert not box.worker.reaper.recover()
    box.worker.say_why_nothing_moves()

    assert "libvirt does not answer" in box.run().waits_for


def test_a_run_waits_while_memory_is_short_and_being_busy_is_not_being_unwell(box: Box) -> None:
    """A watchdog that restarts what is unwell must not do so because steps are at work."""
    box.hypervisor.short = "memory for a VM: 600 MB needed"
    box.fire()
    box.go()

    assert box.run().state is RunState.QUEUED
    assert box.run().waits_for == "memory for a VM: 600 MB needed (it goes on when other steps have ended)"
    assert box.hypervisor.ran == []
    assert "libvirt" not in box.service.healthy()

    box.hypervisor.short = ""
    box.clock.pass_time(minutes=1)
    box.watch.look_at_the_clock()
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_the_deadline_holds_while_something_is_down(box: Box) -> None:
    box.secrets.down = Unavailable("Vault is down")
    box.fire()
    box.go()
    box.clock.pass_time(hours=9)
    box.go()

    assert box.run().state is RunState.HALTED


def locked(box: Box) -> set[str]:
    with box.database.reading() as session:
        return set(session.scalars(sa.select(models.TargetLock.target)))


def test_abandoning_keeps_the_targets_until_the_vm_is_dead(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    held: list[set[str]] = []

    def be_abandoned() -> TaskResult:
        box.service.abandon(1, ANA, "wrong")
        held.append(locked(box))
        return ended(Ending.CANCELLED, None, "cancelled")

    box.hypervisor.behaviour["production"] = be_abandoned
    box.go()

    assert held == [{"staging.toy", "production.toy"}]
    assert locked(box) == set()


def test_a_later_alert_of_the_group_that_has_a_runbook_starts_it(box: Box) -> None:
    box.fire(b"Unheard firing")
    box.shelf.runbook = replace(box.shelf.runbook, alertnames=("Unheard2",))
    with box.database.transaction() as session:
        session.execute(sa.update(models.Incident).values(key="fake:group-Unheard2"))
    box.fire(b"Unheard2 firing")

    assert len(box.service.incidents()) == 1
    assert box.run().runbook == "toy"


def test_an_alert_that_still_fires_after_its_incident_was_closed_is_heard_again(box: Box) -> None:
    box.fire(b"Unheard firing")
    box.service.close(1, ANA)
    box.fire(b"Unheard firing /other")

    assert [row.number for row in box.service.incidents(only_open=True)] == [2]


def test_a_beat_before_the_claim_is_written_stops_nothing(box: Box) -> None:
    box.fire()
    box.secrets.when_asked = box.worker._beat  # asked before each boundary, so also while nothing is claimed yet

    box.driver.woken(box.run().id)

    assert box.run().state is RunState.AWAITING_APPROVAL, box.run().escalations


def test_a_beat_stops_what_goes_on_after_it_was_abandoned(box: Box) -> None:
    box.fire()
    stopped = []

    def abandoned_elsewhere() -> TaskResult:
        with box.database.transaction() as session:
            runs.get(session, box.run().id).worker = None
        box.worker._beat()
        stopped.append(box.driver.running.is_stopped(box.run().id))
        return ended()

    box.hypervisor.behaviour["diagnose"] = abandoned_elsewhere
    box.driver.woken(box.run().id)

    assert stopped == [True]


def test_what_could_not_be_said_or_read_makes_us_unwell(box: Box) -> None:
    box.service.receive("fake", {"Authorization": "Bearer token"}, b"nonsense")
    box.fire()
    item = box.service.outbox_due()[0]
    box.service.outbox_dead(item, "refused")

    assert set(box.service.healthy()) == {"outbox", "inbox"}
