"""When time passes and nobody acts, when somebody puts it off, and when everything is stopped."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from engine.coordination import stopping
from engine.domain.errors import Conflict, NotAllowed
from engine.domain.incident import EscalationView, MessageRef, Person, Topic
from engine.domain.ports import Ending, TaskResult
from engine.domain.states import ApprovalState, AttemptState, Decision, RunState, Verdict
from engine.store import models
from tests.doubles.engine import ended
from tests.doubles.toy import toy_runbook
from tests.integration.engine.conftest import ANA, BEN, CLEO, Box

ON_THE_MACHINE = Person(id="cli:root", name="root")
AFTER_S = toy_runbook().escalate.after_s


def told(box: Box, topic: Topic) -> list[str]:
    """The keys of what people were to be told of this topic."""
    table = models.Outbox
    with box.database.reading() as session:
        return list(session.scalars(sa.select(table.key).where(table.topic == topic).order_by(table.id)))


def wait(box: Box, minutes: float) -> None:
    """So much time passes; the watch looks every half minute."""
    for _ in range(int(minutes * 2)):
        box.clock.pass_time(seconds=30)
        box.watch.look_at_the_clock()


def kinds(box: Box) -> list[str]:
    return [event.kind for event in box.incident().events]


def throw(box: Box, *, on: bool, reason: str = "") -> None:
    """As the command line does it: another process, on the same database."""
    with box.database.transaction() as session:
        stopping.throw(session, on=on, person=ON_THE_MACHINE, reason=reason, now=box.clock.now())


# -- approvals


def test_people_are_warned_once_before_an_approval_expires(box: Box) -> None:
    box.until_approval()
    wait(box, 14)
    early = told(box, Topic.APPROVAL_REMINDER)
    wait(box, 5)

    assert early == []
    assert len(told(box, Topic.APPROVAL_REMINDER)) == 1
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_an_approval_that_got_more_time_warns_anew_and_can_be_given_in_it(box: Box) -> None:
    token = box.until_approval()
    before = box.run().approvals[-1].expires_at
    wait(box, 16)
    box.service.extend(token, ANA)
    asked = box.run().approvals[-1]
    wait(box, 10)

    assert asked.expires_at > before
    assert asked.extended_by == ANA
    assert "approval_extended" in kinds(box)
    assert len(told(box, Topic.APPROVAL_REMINDER)) == 2
    box.service.approve(token, BEN, yes=True)
    box.go()
    assert box.run().state is RunState.COMPLETED


def test_more_time_never_goes_beyond_the_age_that_the_evidence_may_have(box: Box) -> None:
    token = box.until_approval()
    gate = box.run().verdicts[-1]
    wait(box, 16)
    box.service.extend(token, ANA)

    assert (box.run().approvals[-1].expires_at - gate.ended_at).total_seconds() == 1800
    wait(box, 10)
    with pytest.raises(Conflict, match="the evidence would be too old"):
        box.service.extend(token, ANA)


def test_an_approval_that_nobody_gave_halts_its_run(box: Box) -> None:
    token = box.until_approval()
    wait(box, 21)

    assert box.run().approvals[-1].state is ApprovalState.EXPIRED
    assert box.run().state is RunState.HALTED
    with pytest.raises(Conflict, match="expired"):
        box.service.extend(token, ANA)
    box.go()
    assert "production" not in box.hypervisor.ran


def test_only_who_may_decide_gives_more_time(box: Box) -> None:
    token = box.until_approval()

    with pytest.raises(NotAllowed):
        box.service.extend(token, CLEO)
    assert "approval_extended" not in kinds(box)


def test_more_time_may_be_asked_on_a_reminder_of_the_question_but_nowhere_else(box: Box) -> None:
    token = box.until_approval()
    wait(box, 16)
    [key] = told(box, Topic.APPROVAL_REMINDER)
    question, reminder = MessageRef(channel="C1", ts="1.0"), MessageRef(channel="C1", ts="2.0")
    box.service.keep_ref(f"approval:{box.run().approvals[-1].id}", question)
    box.service.keep_ref(key, reminder)

    with pytest.raises(NotAllowed):
        box.service.extend(token, ANA, at=MessageRef(channel="C1", ts="3.0"))
    with pytest.raises(NotAllowed):
        box.service.approve(token, ANA, yes=True, at=reminder)
    box.service.extend(token, ANA, at=reminder)
    assert box.run().approvals[-1].extended_by == ANA


# -- escalations


def halted(box: Box) -> EscalationView:
    """Up to a halt; returns the question."""
    box.gates.verdicts["confirmed-inside"] = Verdict.FAILED
    box.fire()
    box.go()
    assert box.run().state is RunState.HALTED
    return box.run().escalations[-1]


def test_each_reminder_of_a_halt_waits_twice_as_long_as_the_one_before(box: Box) -> None:
    halted(box)
    counts = []
    for minutes in (14, 2, 28, 3, 57, 4):
        wait(box, minutes)
        counts.append(len(told(box, Topic.ESCALATION_REMINDER)))

    assert AFTER_S == 15 * 60
    assert counts == [0, 1, 1, 2, 2, 3]


def test_who_is_at_it_is_not_reminded_for_an_hour_and_is_named(box: Box) -> None:
    raised = halted(box)
    wait(box, 10)
    box.service.extend(raised.token, BEN)
    wait(box, 59)
    quiet = told(box, Topic.ESCALATION_REMINDER)
    wait(box, 2)

    assert quiet == []
    assert len(told(box, Topic.ESCALATION_REMINDER)) == 1
    assert box.run().escalations[-1].at_it == BEN
    assert "reminder_put_off" in kinds(box)
    assert any("put-off" in key for key in told(box, Topic.ESCALATION))


def test_being_at_it_brings_no_reminder_nearer(box: Box) -> None:
    raised = halted(box)
    wait(box, 110)
    due = box.run().escalations[-1].remind_at
    assert due is not None
    box.service.extend(raised.token, BEN)
    after = box.run().escalations[-1].remind_at

    assert after is not None
    assert after >= due


def test_a_question_that_nobody_answered_in_a_day_is_put_anew_and_its_buttons_are_dead(box: Box) -> None:
    old = halted(box)
    box.clock.pass_time(hours=24)
    box.watch.look_at_the_clock()
    first, anew = box.run().escalations

    assert first.expired_at is not None
    assert not first.is_open
    assert anew.is_open
    assert anew.token != old.token
    assert anew.options == old.options
    with pytest.raises(Conflict, match="put anew"):
        box.service.decide(old.token, ANA, Decision.RETRY)
    with pytest.raises(Conflict, match="put anew"):
        box.service.extend(old.token, ANA)
    assert box.run().state is RunState.HALTED
    box.gates.verdicts.clear()
    box.service.decide(anew.token, ANA, Decision.RETRY)
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_a_question_that_was_decided_reminds_nobody(box: Box) -> None:
    raised = halted(box)
    box.service.decide(raised.token, ANA, Decision.TAKE_OVER)
    wait(box, 60)

    assert told(box, Topic.ESCALATION_REMINDER) == []
    with pytest.raises(Conflict, match="already decided by Ana"):
        box.service.extend(raised.token, BEN)


# -- the kill switch


def test_while_the_kill_switch_is_on_no_step_starts_and_afterwards_the_run_goes_on(box: Box) -> None:
    box.service.throw_kill_switch(ANA, on=True, reason="a flood")
    box.fire()
    box.go()
    stopped = box.run()

    assert stopped.state is RunState.QUEUED
    assert stopped.waits_for == "the kill switch, which Ana threw: a flood"
    assert stopped.attempts == ()
    box.service.throw_kill_switch(BEN, on=False)
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_while_the_kill_switch_is_on_no_gate_is_measured(box: Box) -> None:
    def finish_stopped() -> TaskResult:
        throw(box, on=True)
        return ended()

    box.hypervisor.behaviour["diagnose"] = finish_stopped
    box.fire()
    box.go()

    assert box.run().state is RunState.QUEUED
    assert box.gates.measured == []
    throw(box, on=False)
    box.go()
    assert "confirmed-inside" in box.gates.measured


def test_the_kill_switch_stays_as_it_was_left_over_a_restart(box: Box) -> None:
    box.service.throw_kill_switch(ANA, on=True, reason="a flood")
    box.restart()
    box.fire()
    box.go()

    assert box.run().attempts == ()
    assert "kill switch" in box.service.healthy()
    switch = box.service.kill_switch()
    assert (switch.on, switch.by, switch.reason) == (True, ANA, "a flood")
    with pytest.raises(Conflict, match="on already"):
        box.service.throw_kill_switch(BEN, on=True)


def test_who_may_not_decide_may_not_stop_everything(box: Box) -> None:
    with pytest.raises(NotAllowed):
        box.service.throw_kill_switch(CLEO, on=True)

    assert not box.service.kill_switch().on


@pytest.mark.parametrize("here", [True, False], ids=["by this process", "by another process"])
def test_a_running_step_is_stopped_and_a_person_is_asked_about_it(box: Box, here: bool) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)

    def be_stopped() -> TaskResult:
        if here:
            box.service.throw_kill_switch(ANA, on=True)
        else:
            throw(box, on=True)
            box.worker.stop_what_must_not_go_on()
        return ended(Ending.CANCELLED, code=None)

    box.hypervisor.behaviour["production"] = be_stopped
    box.driver.woken(box.run().id)

    attempt = box.run().attempts[-1]
    assert box.hypervisor.destroyed == [attempt.id]
    assert attempt.state is AttemptState.UNKNOWN
    assert box.run().state is RunState.HALTED


def test_every_open_incident_shows_the_kill_switch_when_it_is_thrown_and_when_it_is_taken_back(box: Box) -> None:
    def sent() -> set[Topic]:
        items = box.service.outbox_due(100)
        for item in items:
            box.service.outbox_sent(item, {})
        return {item.topic for item in items}

    box.until_approval()
    for on in (True, False):
        while sent():
            pass
        throw(box, on=on)
        assert sent() == {Topic.CARD, Topic.FEED}


# -- a VM that nobody saw dead


@pytest.mark.parametrize("decision", [Decision.TAKE_OVER, Decision.ABANDON])
def test_targets_stay_locked_while_a_vm_that_nobody_saw_dead_may_live(box: Box, decision: Decision) -> None:
    """The person may end the run; the next run gets the target only when the old one's VM is surely gone."""

    class Killed(BaseException):
        pass

    def die() -> TaskResult:
        raise Killed

    box.service.approve(box.until_approval(), ANA, yes=True)
    box.hypervisor.behaviour["production"] = die
    with pytest.raises(Killed):
        box.go()
    with box.database.transaction() as session:
        session.execute(sa.update(models.Worker).values(host="elsewhere"))
    box.restart()
    assert box.run().state is RunState.HALTED
    box.service.decide(box.run().escalations[-1].token, ANA, decision)
    box.round()
    wait(box, 0.5)

    assert locks(box) == 2
    wait(box, 30)
    assert locks(box) == 0


def locks(box: Box) -> int:
    with box.database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(models.TargetLock)) or 0


# -- who lives


def test_a_worker_that_fell_silent_is_not_shown_as_living_though_nobody_declared_it_dead(box: Box) -> None:
    [worker] = box.service.workers()
    assert (worker.pool, worker.concurrency) == ("default", 1)
    assert (worker.alive_until is None) is not box.database.is_shared

    box.service.throw_kill_switch(ANA, on=True)
    box.fire()
    box.go()
    assert "workers" not in box.service.healthy()
    with box.database.transaction() as session:
        session.execute(sa.update(models.Worker).values(alive_until=datetime(2000, 1, 1, tzinfo=UTC)))
    if box.database.is_shared:
        assert box.service.workers() == ()
        assert "the pool default" in box.service.healthy()["workers"]
    else:
        assert len(box.service.workers()) == 1
