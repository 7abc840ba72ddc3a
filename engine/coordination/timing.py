"""What happens when time passes and nobody acts: warn, remind, expire, ask anew; and what a person may put off.

Warning and reminding change no state. Putting off moves a deadline, by a named person. Expiring ends what stood: an
approval halts its run, an escalation is put anew to everyone who may decide. Nothing here ever opens the way onward.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from engine.coordination import approvals, calls, machine
from engine.coordination.escalation import LASTS, ask, halt
from engine.domain.errors import Conflict
from engine.domain.incident import Person, Topic
from engine.domain.journey import Journey
from engine.domain.runbook import Snapshot
from engine.domain.states import FINAL, ApprovalState, Choice, RunEvent, RunState
from engine.store import chain, models, outbox, questions, runs
from engine.store.ids import new_id, new_token
from engine.store.session import Session
from engine.store.wakeups import wake

PUT_OFF = timedelta(hours=1)
WORTH_IT = timedelta(minutes=1)


Load = Callable[[], tuple[Snapshot, Journey]]
""" Reads the run's runbook, where that is needed. """


def look(session: Session, run: models.Run, load: Load, now: datetime) -> None:
    """Do what is due for this run, and say when to look again (`wake_at`)."""
    if run.wake_at is None or run.wake_at > now:
        return
    run.wake_at = None
    match run.state:
        case RunState.QUEUED if run.worker is None:
            wake(session, run)
            run.wake_at = max(run.not_before or now, now + machine.SENT_AGAIN)
        case RunState.AWAITING_APPROVAL:
            _approval(session, run, load, now)
        case RunState.HALTED:
            _escalation(session, run, load, now)
        case state if state in FINAL:
            if run.worker is None and (run.not_before is None or run.not_before <= now):
                machine.let_go(session, run)
            else:  # its worker, or whoever finds that dead, lets go of it
                run.wake_at = max(run.not_before or now, now + machine.SENT_AGAIN)


# -- approvals


def _approval(session: Session, run: models.Run, load: Load, now: datetime) -> None:
    approval = questions.live_approval(session, run.id)
    if approval is None:
        return
    if approval.expires_at <= now:
        snapshot, journey = load()
        _expire(session, run, approval, snapshot, journey, now)
        return
    if approval.warned_at is None and approvals.warn_at(approval) <= now:
        approval.warned_at = now
        key = f"approval:{approval.id}:warned:{approval.expires_at.timestamp():.0f}"
        outbox.tell(session, Topic.APPROVAL_REMINDER, run.incident_number, approval.id, key, outbox.ASKS_A_PERSON, now)
    run.wake_at = approval.expires_at if approval.warned_at else approvals.warn_at(approval)


def _expire(
    session: Session,
    run: models.Run,
    approval: models.Approval,
    snapshot: Snapshot,
    journey: Journey,
    now: datetime,
) -> None:
    """Nobody said yes in time."""
    approvals.end(
        session, approval, ApprovalState.EXPIRED, now, number=run.incident_number, reason="nobody answered in time"
    )
    halt(
        session,
        run,
        RunEvent.APPROVAL_EXPIRED,
        now,
        journey=journey,
        runbook=snapshot.runbook,
        why=f"Nobody approved {'one call of ' if approval.agent_call_id else ''}{approval.leg} in time.",
        remedy="Retry measures and asks anew.",
    )


def extend(
    session: Session,
    run: models.Run,
    approval: models.Approval,
    journey: Journey,
    person: Person,
    now: datetime,
) -> None:
    """Give people more time to answer, as much as the runbook gave; never beyond the age that the evidence may have.

    Raises Conflict when that would be no time at all: then only measuring anew helps.
    """
    a_change = approval.agent_call_id is None  # a call is under no gate's evidence: its agent reads
    gate = journey.gate_before(approval.leg) if a_change else None
    verdict = runs.last_verdict(session, run.id, gate.id) if gate else None
    rule = journey.leg(approval.leg).step
    lasts = timedelta(seconds=getattr(getattr(rule, "approval", None), "expires_s", 0)) if a_change else calls.STANDS
    until = min(now + lasts, run.deadline_at)
    if gate is not None and verdict is not None:
        until = min(until, verdict.ended_at + timedelta(seconds=gate.fresh_for_s))
    if until < approval.expires_at + WORTH_IT:
        raise Conflict(
            f"it cannot stand longer than {approval.expires_at:%H:%M} UTC: the evidence would be too old",
            "reject it, then Retry: the gate is measured and you are asked anew",
        )
    decision = questions.decided(
        session, run.id, Choice.EXTEND, person, f"until {until:%H:%M} UTC", now, approval=approval
    )
    approval.expires_at, approval.warned_at = until, None
    run.wake_at = approvals.warn_at(approval)
    text = f"{person.name or person.id} gave the approval of {approval.leg} until {until:%H:%M} UTC."
    _event(session, run, "approval_extended", person.id, text, now, questions.told(decision))
    key = f"approval:{approval.id}:extended:{decision.id}"
    outbox.tell(session, Topic.APPROVAL, run.incident_number, approval.id, key, outbox.ASKS_A_PERSON, now)


# -- escalations


def _escalation(session: Session, run: models.Run, load: Load, now: datetime) -> None:
    raised = questions.open_escalation(session, run.id)
    if raised is None:
        return
    snapshot = load()[0]
    if raised.expires_at is not None and raised.expires_at <= now:
        _ask_anew(session, run, raised, snapshot, now)
        return
    if raised.remind_at is None or raised.remind_at <= now:
        raised.reminders += 1
        key = f"escalation:{raised.id}:reminder:{raised.reminders}"
        outbox.tell(session, Topic.ESCALATION_REMINDER, run.incident_number, raised.id, key, outbox.ASKS_A_PERSON, now)
        # each reminder waits twice as long as the one before: a person who knows is not to be worn down
        raised.remind_at = now + timedelta(seconds=snapshot.runbook.escalate.after_s * 2**raised.reminders)
    run.wake_at = min(filter(None, (raised.remind_at, raised.expires_at)))


def _ask_anew(session: Session, run: models.Run, old: models.Escalation, snapshot: Snapshot, now: datetime) -> None:
    """A question that nobody answered: its buttons go, and it is put again, as a new message."""
    old.expired_at = now
    session.flush()
    remind_at = now + timedelta(seconds=snapshot.runbook.escalate.after_s)
    row = models.Escalation(
        id=new_id(),
        run_id=run.id,
        leg=old.leg,
        why=old.why,
        remedy=old.remedy,
        mention=old.mention,
        options=old.options,
        token=new_token(),
        raised_at=now,
        remind_at=remind_at,
        expires_at=now + LASTS,
    )
    ask(session, run.incident_number, row, now)
    run.wake_at = remind_at
    hours = int((now - old.raised_at).total_seconds() // 3600)
    text = f"Nobody decided for {hours} hours; the question was put anew."
    _event(session, run, "escalation_expired", machine.MACHINE, text, now, {"escalation": old.id, "anew": row.id})
    key = f"escalation:{old.id}:expired"
    outbox.tell(session, Topic.ESCALATION, run.incident_number, old.id, key, outbox.ASKS_A_PERSON, now)


def put_off(session: Session, run: models.Run, raised: models.Escalation, person: Person, now: datetime) -> None:
    """No reminder for an hour at least: a named person knows, and is at it."""
    decision = questions.decided(
        session, run.id, Choice.EXTEND, person, "no reminder for an hour", now, escalation=raised
    )
    raised.remind_at = max(now + PUT_OFF, raised.remind_at or now)  # late reminders are further apart than that
    run.wake_at = min(filter(None, (raised.remind_at, raised.expires_at)))
    text = f"{person.name or person.id} is at it: no reminder until {raised.remind_at:%H:%M} UTC."
    _event(session, run, "reminder_put_off", person.id, text, now, questions.told(decision))
    key = f"escalation:{raised.id}:put-off:{decision.id}"
    outbox.tell(session, Topic.ESCALATION, run.incident_number, raised.id, key, outbox.ASKS_A_PERSON, now)


def _event(
    session: Session, run: models.Run, kind: str, actor: str, text: str, now: datetime, detail: dict[str, str]
) -> None:
    chain.append(
        session,
        number=run.incident_number,
        run_id=run.id,
        at=now,
        kind=kind,
        actor=actor,
        text=text,
        detail=detail,
    )
