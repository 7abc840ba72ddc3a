"""Halting: the run stops, and a person is asked, with the choices that are open to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from engine.coordination import approvals, machine
from engine.domain.incident import Topic
from engine.domain.journey import Journey, Role
from engine.domain.runbook import Runbook
from engine.domain.states import Decision, RunEvent
from engine.store import models, outbox, questions, runs
from engine.store.ids import new_id, new_token
from engine.store.session import Session

LASTS = timedelta(hours=24)
""" So long a question stands; then its buttons go, and it is put anew, to everyone who may decide. """


def halt(
    session: Session,
    run: models.Run,
    event: RunEvent,
    now: datetime,
    *,
    journey: Journey,
    runbook: Runbook,
    why: str,
    remedy: str = "",
    actor: str = machine.MACHINE,
    detail: Mapping[str, object] | None = None,
) -> models.Run:
    """Take a move that ends in `halted`, and ask a person."""
    approval = questions.live_approval(session, run.id)
    if approval is not None:  # a yes does not outlive the halt; one left behind would block the next
        approvals.void(session, approval, "the run halted before it was used", now, number=run.incident_number)
    remind_at = now + timedelta(seconds=runbook.escalate.after_s)
    waits_for = "a person's decision"
    halted = machine.move(
        session, run, event, now, actor=actor, text=why, waits_for=waits_for, wake_at=remind_at, detail=detail
    )
    row = models.Escalation(
        id=new_id(),
        run_id=run.id,
        leg=run.leg,
        why=why[:3000],
        remedy=remedy[:1000],
        mention=runbook.escalate.to,
        options=[decision.value for decision in options(session, halted, journey)],
        token=new_token(),
        raised_at=now,
        remind_at=remind_at,
        expires_at=now + LASTS,
    )
    ask(session, run.incident_number, row, now)
    return halted


def ask(session: Session, number: int, row: models.Escalation, now: datetime) -> None:
    """Put a question to people, with buttons of its own."""
    questions.add_escalation(session, row)
    key = f"escalation:{row.id}:raised"
    outbox.tell(session, Topic.ESCALATION, number, row.id, key, outbox.ASKS_A_PERSON, now)


def options(session: Session, run: models.Run, journey: Journey) -> tuple[Decision, ...]:
    """What a person may decide here. Rolling back is open once a step with a rollback was started for real."""
    choices = [Decision.RETRY]
    if rollback_leg(session, run, journey) is not None:
        choices.append(Decision.ROLL_BACK)
    return (*choices, Decision.TAKE_OVER, Decision.ABANDON)


def rollback_leg(session: Session, run: models.Run, journey: Journey) -> str | None:
    """The rollback line of the newest change that has one and was not undone yet; None when there is none."""
    if journey.leg(run.leg).role is Role.ROLLBACK and journey.rollback_of(journey.leg(run.leg).step.id):
        return None
    for attempt in reversed(runs.attempts(session, run.id)):
        leg = journey.rollback_of(attempt.step)
        if attempt.changes and leg is not None:
            return leg.id
    return None
