"""What people are asked (approvals, escalations) and what they decided."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.errors import Conflict
from engine.domain.incident import Person
from engine.domain.records import said
from engine.domain.states import ApprovalState, Choice
from engine.store import evidence, models
from engine.store.ids import new_id

MAX_REASON = 2000

# -- decisions


def decided(
    session: Session,
    run_id: str,
    choice: Choice,
    person: Person,
    reason: str,
    now: datetime,
    *,
    approval: models.Approval | None = None,
    escalation: models.Escalation | None = None,
) -> models.PersonDecision:
    """What a named person chose. Without such a row no approval is given and no escalation decided (triggers)."""
    row = models.PersonDecision(
        id=new_id(),
        run_id=run_id,
        approval_id=approval.id if approval else None,
        escalation_id=escalation.id if escalation else None,
        choice=choice,
        order_digest=approval.order_digest if approval else None,
        by=person.id,
        by_name=person.name,
        at=now,
        reason=reason[:MAX_REASON],
    )
    session.add(row)
    session.flush()
    return row


def told(row: models.PersonDecision) -> dict[str, str]:
    """What the event of a decision says of it, so that it cannot be edited either."""
    return said(evidence.decision(row))


def decisions(session: Session, run_id: str) -> tuple[models.PersonDecision, ...]:
    """All decisions about a run, oldest first."""
    query = sa.select(models.PersonDecision).where(models.PersonDecision.run_id == run_id)
    return tuple(session.scalars(query.order_by(models.PersonDecision.at, models.PersonDecision.id)))


# -- approvals


def add_approval(session: Session, row: models.Approval) -> None:
    """An asked-for yes; the database refuses a second live one for the run."""
    session.add(row)
    session.flush()


def live_approval(session: Session, run_id: str) -> models.Approval | None:
    """The approval in play: asked for, or given and not yet used."""
    return session.scalar(
        sa.select(models.Approval).where(
            models.Approval.run_id == run_id,
            models.Approval.state.in_([ApprovalState.PENDING, ApprovalState.APPROVED]),
        )
    )


def approval_by_token(session: Session, token: str) -> models.Approval | None:
    """The approval whose buttons carry this token."""
    return session.scalar(sa.select(models.Approval).where(models.Approval.token == token))


def end_approval(
    session: Session, approval: models.Approval, state: ApprovalState, *, source: ApprovalState, **values: Any
) -> None:
    """Move an approval on, if it is still where it was; raises Conflict when somebody was faster."""
    session.flush()
    update = (
        sa.update(models.Approval)
        .where(models.Approval.id == approval.id, models.Approval.state == source)
        .values(state=state, **values)
        .execution_options(synchronize_session=False)
    )
    if session.connection().execute(update).rowcount != 1:
        raise Conflict("this approval was decided already")
    session.refresh(approval)


def approvals(session: Session, run_id: str) -> tuple[models.Approval, ...]:
    """All approvals of a run, oldest first."""
    query = sa.select(models.Approval).where(models.Approval.run_id == run_id)
    return tuple(session.scalars(query.order_by(models.Approval.requested_at, models.Approval.id)))


# -- escalations


def add_escalation(session: Session, row: models.Escalation) -> None:
    """A halt that a person must decide."""
    session.add(row)
    session.flush()


def open_escalation(session: Session, run_id: str) -> models.Escalation | None:
    """The escalation of a run that stands open."""
    table = models.Escalation
    return session.scalar(
        sa.select(table).where(table.run_id == run_id, table.decided.is_(None), table.expired_at.is_(None))
    )


def escalation_by_token(session: Session, token: str) -> models.Escalation | None:
    """The escalation whose buttons carry this token."""
    return session.scalar(sa.select(models.Escalation).where(models.Escalation.token == token))


def decide_escalation(session: Session, row: models.Escalation, **values: Any) -> None:
    """Write the decision, if none is there yet; raises Conflict when somebody was faster."""
    session.flush()
    update = (
        sa.update(models.Escalation)
        .where(
            models.Escalation.id == row.id, models.Escalation.decided.is_(None), models.Escalation.expired_at.is_(None)
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if session.connection().execute(update).rowcount != 1:
        raise Conflict("this was decided already")
    session.refresh(row)


def escalations(session: Session, run_id: str) -> tuple[models.Escalation, ...]:
    """All escalations of a run, oldest first."""
    query = sa.select(models.Escalation).where(models.Escalation.run_id == run_id)
    return tuple(session.scalars(query.order_by(models.Escalation.raised_at, models.Escalation.id)))
