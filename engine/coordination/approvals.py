"""Approvals: a person's yes to exactly one order, asked for, answered, voided, consumed once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from engine.coordination import machine
from engine.coordination.orders import Plan, World
from engine.domain.errors import Conflict
from engine.domain.incident import Person, Topic
from engine.domain.journey import Role
from engine.domain.records import said
from engine.domain.states import ApprovalState, Choice, RunEvent
from engine.store import chain, evidence, models, outbox, questions
from engine.store.ids import new_id, new_token
from engine.store.session import Session

WARNED_BEFORE = timedelta(minutes=5)


def _row(run: models.Run, plan: Plan, now: datetime, expires_s: int, preview: str) -> models.Approval:
    return models.Approval(
        id=new_id(),
        run_id=run.id,
        leg=plan.leg.id,
        state=ApprovalState.PENDING,
        token=new_token(),
        content_digest=plan.content_digest,
        order_digest=plan.order_digest,
        lines=dict(plan.lines),
        preview=preview,
        requested_at=now,
        expires_at=now + timedelta(seconds=expires_s),
    )


def warn_at(approval: models.Approval) -> datetime:
    """When people are told that it is about to expire: a third of its time before, five minutes at most."""
    return approval.expires_at - min(WARNED_BEFORE, (approval.expires_at - approval.requested_at) / 3)


def request(
    session: Session, run: models.Run, plan: Plan, preview: str, now: datetime, *, until: datetime | None = None
) -> models.Run:
    """Ask for a yes to this order, and wait for it."""
    expires_s = plan.step.approval.expires_s if plan.step.approval else 0
    row = _row(run, plan, now, expires_s, preview)
    # a later yes would be to evidence that must be measured again, or for a run whose time is over
    row.expires_at = min(row.expires_at, run.deadline_at, until or row.expires_at)
    questions.add_approval(session, row)
    waiting = machine.move(
        session,
        run,
        RunEvent.APPROVAL_REQUESTED,
        now,
        text=f"{plan.leg.id} asks for a yes to order {plan.order_digest[7:19]}.",
        waits_for=f"approval of {plan.leg.id}",
        wake_at=warn_at(row),
        detail={"order": plan.order_digest, **said(evidence.approval(row))},
    )
    tell(session, run.incident_number, row, "requested", now)
    return waiting


def by_decision(session: Session, run: models.Run, plan: Plan, person: Person, now: datetime) -> None:
    """A decision to roll back is the approval of that rollback's order."""
    row = _row(run, plan, now, 3600, "")
    questions.add_approval(session, row)
    yes = questions.decided(session, run.id, Choice.APPROVE, person, "decided on the escalation", now, approval=row)
    questions.end_approval(
        session,
        row,
        ApprovalState.APPROVED,
        source=ApprovalState.PENDING,
        decided_by=person.id,
        decided_name=person.name,
        decided_at=now,
        reason="decided on the escalation",
    )
    chain.append(
        session,
        number=run.incident_number,
        run_id=run.id,
        at=now,
        kind="approved_by_decision",
        actor=person.id,
        text=f"{person.name or person.id} decided, and so approved {row.leg}, order {row.order_digest[7:19]}.",
        detail={"order": row.order_digest, **said(evidence.approval(row)), **questions.told(yes)},
    )


def void(session: Session, approval: models.Approval, why: str, now: datetime, *, number: int) -> None:
    """What was shown is no longer what would be applied."""
    questions.end_approval(session, approval, ApprovalState.VOIDED, source=approval.state, reason=why)
    tell(session, number, approval, "voided", now)


def end(
    session: Session,
    approval: models.Approval,
    state: ApprovalState,
    now: datetime,
    *,
    number: int,
    person: Person | None = None,
    reason: str = "",
) -> Mapping[str, str]:
    """Answer (or expire) a pending approval; returns what the event says of the decision, nothing if it expired.

    Raises Conflict when somebody was faster.
    """
    told: Mapping[str, str] = {}
    if person is not None:
        choice = Choice.APPROVE if state is ApprovalState.APPROVED else Choice.REJECT
        told = questions.told(
            questions.decided(session, approval.run_id, choice, person, reason, now, approval=approval)
        )
    questions.end_approval(
        session,
        approval,
        state,
        source=ApprovalState.PENDING,
        decided_by=person.id if person else None,
        decided_name=person.name if person else None,
        decided_at=now,
        reason=reason[:2000],
    )
    tell(session, number, approval, state.value, now)
    return told


def mismatch(approval: models.Approval, run: models.Run, plan: Plan, world: World) -> str:
    """Why this approval does not bind this order; empty when it does.

    A rollback runs as it was rehearsed and kept with the run: a newer runbook on disk must not stand in its way.
    """
    if approval.agent_call_id is not None:
        return "it was given for one call of an agent, which is no change"
    if approval.leg != plan.leg.id:
        return f"it was given for {approval.leg}"
    if plan.leg.role is not Role.ROLLBACK and world.shelf_digest != run.runbook_digest:
        return "the runbook on disk is not the one that this run started with"
    if approval.content_digest != plan.content_digest:
        return "what would be applied (artefact, script, arguments or image) is not what was shown"
    if approval.order_digest != plan.order_digest:
        return "the order (target, grants, inputs or evidence) is not the one that was shown"
    return ""


def not_shown(approval: models.Approval, plan: Plan, preview: str) -> str:
    """Why a person's yes would be to something that they did not see; empty when they saw this order.

    The worker that asked wrote what is shown: here it is worked out once more, by the side that people talk to.
    """
    shown = approval.lines == dict(plan.lines) and approval.preview == preview.replace("\x00", "\ufffd")
    return "" if shown else "what was shown of the order is not what it says"


def must_be_pending(session: Session, token: str) -> models.Approval:
    """The approval of a button; raises Conflict that says what became of it."""
    approval = questions.approval_by_token(session, token)
    if approval is None:
        raise Conflict("this button is not known", "look at the incident's page")
    if approval.state is not ApprovalState.PENDING:
        who = f" by {approval.decided_name or approval.decided_by}" if approval.decided_by else ""
        raise Conflict(f"already {approval.state.value}{who}")
    return approval


def tell(session: Session, number: int, approval: models.Approval, what: str, now: datetime) -> None:
    key = f"approval:{approval.id}:{what}"
    outbox.tell(session, Topic.APPROVAL, number, approval.id, key, outbox.ASKS_A_PERSON, now)
