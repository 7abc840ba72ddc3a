"""What people decide: approve or reject an order; retry, roll back, take over, abandon a halted run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from engine.coordination import approvals, calls, machine, orders
from engine.coordination.closing import close
from engine.coordination.escalation import halt, rollback_leg
from engine.coordination.orders import Plan, World
from engine.domain.errors import BadInput, Conflict, NotAllowed, SignalboxError
from engine.domain.incident import Person, Topic
from engine.domain.journey import Journey, Leg, LegKind
from engine.domain.records import said
from engine.domain.runbook import Snapshot
from engine.domain.states import (
    EVENT_OF_DECISION,
    ApprovalState,
    Choice,
    Decision,
    RunEvent,
    Verdict,
)
from engine.store import evidence, incidents, models, outbox, questions, runs
from engine.store.session import Session


def must_be_allowed(person: Person, allowed: tuple[str, ...]) -> None:
    """Only configured people decide; raises NotAllowed that names them."""
    if person.id not in allowed:
        names = ", ".join(f"<@{who}>" if who.startswith(("U", "W")) else who for who in allowed)
        raise NotAllowed("you may not decide this", f"these people may: {names or 'nobody is configured'}")


def approve(
    session: Session,
    run: models.Run,
    approval: models.Approval,
    snapshot: Snapshot,
    journey: Journey,
    world: World,
    person: Person,
    now: datetime,
) -> str:
    """Say yes. Returns why it is void instead, when the order is not the one that was shown; empty when it counts."""
    incident = incidents.get(session, run.incident_number)
    if person.id == run.chosen_by or (incident is not None and person.id == incident.opened_by):
        raise NotAllowed("you declared this or chose its runbook: somebody else approves", "ask another approver")
    if approval.expires_at <= now:
        raise Conflict("this approval expired", "press Retry on the escalation: it asks anew")
    try:
        plan = orders.work_out(session, run, snapshot, journey, journey.leg(approval.leg), world)
        why = _why_void(session, run, approval, plan, world)
    except SignalboxError as error:
        why = str(error)
    if why:
        approvals.void(session, approval, why, now, number=run.incident_number)
        text = f"The approval is void: {why}"
        halt(
            session,
            run,
            RunEvent.APPROVAL_VOIDED,
            now,
            journey=journey,
            runbook=snapshot.runbook,
            why=text,
            remedy="Find out who changed it. Retry measures and asks anew.",
        )
        return why
    told = approvals.end(session, approval, ApprovalState.APPROVED, now, number=run.incident_number, person=person)
    what = f"one call of {approval.leg}" if approval.agent_call_id else approval.leg
    machine.move(
        session,
        run,
        RunEvent.APPROVED,
        now,
        actor=person.id,
        text=f"{person.name or person.id} approved {what}, order {approval.order_digest[7:19]}.",
        detail={"approval": approval.id, "order": approval.order_digest, **told},
    )
    return ""


def _why_void(session: Session, run: models.Run, approval: models.Approval, plan: Plan, world: World) -> str:
    """Why a yes would be to something else than what was shown, or would be done; empty when it counts."""
    if approval.agent_call_id is not None:
        return calls.mismatch(session, approval, run, plan, world) or calls.not_shown(session, approval, plan)
    artefact = runs.artefact(session, run.id, plan.uses_digest) if plan.uses_digest else None
    preview = world.preview(plan.step, artefact) if artefact else ""
    return approvals.mismatch(approval, run, plan, world) or approvals.not_shown(approval, plan, preview)


def reject(
    session: Session,
    run: models.Run,
    approval: models.Approval,
    snapshot: Snapshot,
    journey: Journey,
    person: Person,
    reason: str,
    now: datetime,
) -> None:
    """Say no, with a reason."""
    told = approvals.end(
        session, approval, ApprovalState.REJECTED, now, number=run.incident_number, person=person, reason=reason
    )
    why = f"{person.name or person.id} rejected {approval.leg}: {reason or 'no reason given'}"
    halt(
        session,
        run,
        RunEvent.REJECTED,
        now,
        journey=journey,
        runbook=snapshot.runbook,
        why=why,
        actor=person.id,
        detail=told,
    )


def must_be_open(escalation: models.Escalation) -> models.Escalation:
    """An escalation that still waits for its answer; raises Conflict that says what became of it."""
    if escalation.decided is not None:
        raise Conflict(f"already decided by {escalation.decided_name or escalation.decided_by}: {escalation.decided}")
    if escalation.expired_at is not None:
        raise Conflict("this question was put anew", "answer the newest one in the channel")
    return escalation


def decide(
    session: Session,
    run: models.Run,
    escalation: models.Escalation,
    snapshot: Snapshot,
    journey: Journey,
    world: World,
    person: Person,
    decision: Decision,
    reason: str,
    now: datetime,
) -> None:
    """Carry out what a person decided for a halted run. Raises BadInput for what is no option, Conflict if decided."""
    must_be_open(escalation)
    if decision.value not in escalation.options:
        raise BadInput(f"{decision} is not possible here", f"possible: {', '.join(escalation.options)}")
    if decision is Decision.ABANDON:
        abandon(session, run, person, reason or f"{person.name or person.id} decided: abandon.", now)
        return
    told = _decided(session, run, escalation, decision, person, reason, now)
    text = f"{person.name or person.id} decided: {decision.value.replace('_', ' ')}."
    match decision:
        case Decision.RETRY:
            deadline = now + timedelta(seconds=snapshot.runbook.deadline_s)
            leg = retry_leg(session, run, journey)
            again = _move(session, run, decision, person, text, now, told, leg=leg.id, deadline_at=deadline)
            if leg.kind is LegKind.ATTEMPT and orders.changes(leg):  # a rollback's own retry
                plan = orders.work_out(session, again, snapshot, journey, leg, world)
                approvals.by_decision(session, again, plan, person, now)
        case Decision.ROLL_BACK:
            _roll_back(session, run, snapshot, journey, world, person, text, now, told)
        case Decision.TAKE_OVER:
            _move(session, run, decision, person, text, now, told)


def _roll_back(
    session: Session,
    run: models.Run,
    snapshot: Snapshot,
    journey: Journey,
    world: World,
    person: Person,
    text: str,
    now: datetime,
    told: Mapping[str, str],
) -> None:
    leg_id = rollback_leg(session, run, journey)
    if leg_id is None:
        raise BadInput("there is nothing to roll back")
    deadline = now + timedelta(seconds=snapshot.runbook.deadline_s)
    moved = _move(session, run, Decision.ROLL_BACK, person, text, now, told, leg=leg_id, deadline_at=deadline)
    plan = orders.work_out(session, moved, snapshot, journey, journey.leg(leg_id), world)
    approvals.by_decision(session, moved, plan, person, now)


def retry_leg(session: Session, run: models.Run, journey: Journey) -> Leg:
    """Where a retry begins.

    A gate that could not measure is measured again. Otherwise what the gate judged is tried again; but a change is
    tried again only by way of the gate before it, which is measured anew (and approval is asked anew).
    """
    here = journey.leg(run.leg)
    tried = here
    if here.kind is LegKind.GATE and here.of is not None:
        tried = journey.leg(here.of)
        verdict = runs.last_verdict(session, run.id, here.id)
        ends = [row.ended_at for row in runs.attempts(session, run.id) if row.leg == here.of and row.ended_at]
        judged = verdict is not None and (not ends or verdict.begun_at >= ends[-1])
        unmeasured = not judged or verdict is None or verdict.verdict is not Verdict.FAILED
        if orders.changes(tried) and unmeasured:
            return here
    if orders.changes(tried):
        return journey.gate_before(tried.id) or tried
    return tried


def abandon(session: Session, run: models.Run, person: Person, reason: str, now: datetime) -> None:
    """End the run and close its incident. Whatever its VM was doing becomes unknown; the caller destroys the VM."""
    approval = questions.live_approval(session, run.id)
    if approval is not None:
        approvals.void(session, approval, "the run was abandoned", now, number=run.incident_number)
    told = _decided(session, run, questions.open_escalation(session, run.id), Decision.ABANDON, person, reason, now)
    attempt = runs.started_attempt(session, run.id)
    if attempt is not None and machine.give_up_attempt(session, attempt, now, "abandoned while it ran"):
        told = {**told, **said(evidence.result(attempt))}
    _move(session, run, Decision.ABANDON, person, f"{person.name or person.id} abandoned the run: {reason}", now, told)
    incident = incidents.get(session, run.incident_number)
    if incident is not None:
        close(session, incident, now, actor=person.id, text="Abandoned.")


def _move(
    session: Session,
    run: models.Run,
    decision: Decision,
    person: Person,
    text: str,
    now: datetime,
    told: Mapping[str, str],
    *,
    leg: str | None = None,
    deadline_at: datetime | None = None,
) -> models.Run:
    event, deadline = EVENT_OF_DECISION[decision], deadline_at or run.deadline_at
    return machine.move(
        session, run, event, now, actor=person.id, text=text, leg=leg, deadline_at=deadline, detail=told
    )


def _decided(
    session: Session,
    run: models.Run,
    escalation: models.Escalation | None,
    decision: Decision,
    person: Person,
    reason: str,
    now: datetime,
) -> Mapping[str, str]:
    """Record what a person decided, on the question if there is one; returns what the event says of it."""
    choice = Choice(decision.value)
    told = questions.told(questions.decided(session, run.id, choice, person, reason, now, escalation=escalation))
    if escalation is not None:
        questions.decide_escalation(
            session,
            escalation,
            decided=decision,
            decided_by=person.id,
            decided_name=person.name,
            decided_at=now,
            reason=reason[:2000],
        )
        key = f"escalation:{escalation.id}:decided"
        outbox.tell(session, Topic.ESCALATION, run.incident_number, escalation.id, key, outbox.ASKS_A_PERSON, now)
    return told
