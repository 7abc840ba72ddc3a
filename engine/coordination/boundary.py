"""The boundary between two legs: one transaction that decides what a run does next.

Called by `engine.orchestration.driver`. `next_work` moves a queued run until it has work (an attempt to make, a gate to
measure), waits, halts or ends. Every demand on the start of a change is checked here, together, in the transaction
that starts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.coordination import approvals, calls, machine, orders
from engine.coordination.closing import close_if_over
from engine.coordination.escalation import halt
from engine.coordination.facts import claims, gate_facts
from engine.coordination.orders import Plan, World
from engine.domain.errors import SignalboxError
from engine.domain.gate import Facts, Json
from engine.domain.incident import Topic
from engine.domain.journey import Journey, Leg, LegKind, Role
from engine.domain.ports import OUTLIVES_TIMEOUT_S
from engine.domain.records import said
from engine.domain.runbook import Snapshot, Tool
from engine.domain.states import ApprovalState, AttemptState, RunEvent, RunState, Verdict
from engine.store import evidence, incidents, models, outbox, questions, runs, switch
from engine.store.ids import new_id
from engine.store.session import Session

LOOKED_AT_AGAIN = timedelta(seconds=2)
""" What a run waits for (Vault, libvirt, a target) tells nobody when it is back. """


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptWork:
    """An attempt that is started in the database and must now be made."""

    attempt_id: str
    run_id: str
    plan: Plan
    artefact: bytes | None
    inputs: Mapping[str, str]
    claims: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateWork:
    """A gate that must now be measured."""

    run_id: str
    leg: Leg
    facts: Facts


Work = AttemptWork | GateWork


@dataclass(slots=True)
class _Step:
    """What one pass over a queued run needs."""

    session: Session
    run: models.Run
    snapshot: Snapshot
    journey: Journey
    world: World
    worker: str
    switch: bool
    now: datetime

    def halt(self, event: RunEvent, why: str, remedy: str = "") -> None:
        self.run = halt(
            self.session,
            self.run,
            event,
            self.now,
            journey=self.journey,
            runbook=self.snapshot.runbook,
            why=why,
            remedy=remedy,
        )

    def wait(self, what: str, until: datetime | None = None) -> None:
        wait(self.session, self.run, what, self.now, until)

    def pass_leg(self, text: str) -> None:
        following = self.journey.after(self.run.leg).id
        self.run = machine.move(self.session, self.run, RunEvent.LEG_PASSED, self.now, text=text, leg=following)


def wait(session: Session, run: models.Run, what: str, now: datetime, until: datetime | None = None) -> None:
    """Say what a queued run waits for; it is looked at again then, or soon."""
    run.wake_at = until or now + LOOKED_AT_AGAIN
    if runs.say_waits_for(run, what):
        outbox.refresh(session, run.incident_number, now)


def next_work(
    session: Session,
    run: models.Run,
    snapshot: Snapshot,
    journey: Journey,
    world: World,
    worker: str,
    now: datetime,
    *,
    switch: bool,
) -> Work | None:
    """Move a queued run on; returns work to be done outside the transaction, or None when the run waits or ended.

    `switch`: the kill switch is on, so nothing starts.
    """
    step = _Step(session, run, snapshot, journey, world, worker, switch, now)
    while step.run.state is RunState.QUEUED:
        if now > step.run.deadline_at:
            step.halt(
                RunEvent.DEADLINE_PASSED, "The run took longer than its runbook allows.", "Retry gives it more time."
            )
            return None
        leg = journey.leg(step.run.leg)
        if leg.kind in {LegKind.ATTEMPT, LegKind.GATE} and not _may_begin(step):
            return None
        match leg.kind:
            case LegKind.RECEIVE:
                if not _receive(step):
                    return None
            case LegKind.GATE:
                return _start_gate(step, leg)
            case LegKind.ATTEMPT:
                work = _start_attempt(step, leg)
                if work is not None:
                    return work
            case LegKind.CLOSE | LegKind.ROLLED_BACK:
                _end(step, leg)
    return None


def _may_begin(step: _Step) -> bool:
    """Nothing begins while the kill switch is on, or while a VM that nobody saw dead may be at work."""
    if step.switch:
        thrown = switch.read(step.session)
        who = (thrown.by.name or thrown.by.id) if thrown.by else "somebody"
        step.wait(f"the kill switch, which {who} threw" + (f": {thrown.reason}" if thrown.reason else ""))
        return False
    if step.run.not_before is not None and step.now < step.run.not_before:
        step.wait(
            f"{step.run.not_before:%H:%M:%S} UTC: until then the VM of its lost worker may live", step.run.not_before
        )
        return False
    return True


def _receive(step: _Step) -> bool:
    """Take every target that the runbook writes or measures; another run that holds one of them goes first."""
    holder = runs.take_locks(step.session, step.run.id, _hosts(step.snapshot), step.now)
    if holder is not None:
        other = runs.get(step.session, holder)
        text = f"incident {other.incident_number}, which holds a target that this run needs"
        step.wait(text)
        return False
    step.pass_leg("The alert is in, its inputs are within bounds, the targets are held.")
    return True


def _hosts(snapshot: Snapshot) -> tuple[str, ...]:
    """A lock is on the host: runbooks call one host by different names."""
    return tuple(sorted({target.host for target in snapshot.runbook.targets.values()}))


def _start_gate(step: _Step, leg: Leg) -> GateWork:
    facts = gate_facts(step.session, step.run, step.snapshot, step.journey, leg, step.world)
    step.run = machine.move(step.session, step.run, RunEvent.JUDGING_STARTED, step.now, text=f"Measuring {leg.id}.")
    return GateWork(run_id=step.run.id, leg=leg, facts=facts)


def _start_attempt(step: _Step, leg: Leg) -> AttemptWork | None:
    """Start the attempt of this leg, or move the run to where it must go first."""
    try:
        plan = orders.work_out(step.session, step.run, step.snapshot, step.journey, leg, step.world)
        artefact = runs.artefact(step.session, step.run.id, plan.uses_digest) if plan.uses_digest else None
    except SignalboxError as error:
        _void_or_refuse(step, str(error), error.remedy)
        return None
    if orders.changes(leg) and not _may_change(step, plan, artefact):
        return None
    if plan.step.tool is Tool.AGENT and not _may_go_on(step, plan):
        return None
    attempt = runs.add_attempt(
        step.session,
        models.Attempt(
            id=new_id(),
            run_id=step.run.id,
            leg=leg.id,
            step=leg.step.id,
            target=plan.target.name if plan.target else None,
            changes=orders.changes(leg),
            idempotent=plan.step.idempotent,
            state=AttemptState.STARTED,
            worker=step.worker,
            started_at=step.now,
            content_digest=plan.content_digest,
            order_digest=plan.order_digest,
            uses_digest=plan.uses_digest,
            dead_by=step.now + timedelta(seconds=plan.step.timeout_s + OUTLIVES_TIMEOUT_S),
        ),
    )
    where = f" on {plan.target.name}" if plan.target else ""
    step.run = machine.move(
        step.session,
        step.run,
        RunEvent.ATTEMPT_STARTED,
        step.now,
        text=f"{leg.id} started{where}.",
        detail={"content": plan.content_digest, "order": plan.order_digest, **said(evidence.start(attempt))},
    )
    outbox.tell(
        step.session,
        Topic.LEG_REPORTED,
        step.run.incident_number,
        attempt.id,
        f"attempt:{attempt.id}:started",
        outbox.REPORTS,
        step.now,
    )
    return AttemptWork(
        attempt_id=attempt.id,
        run_id=step.run.id,
        plan=plan,
        artefact=artefact,
        inputs=dict(step.run.inputs),
        # what earlier steps printed is on no digest: what a change applies is its artefact
        claims={} if orders.changes(leg) else claims(step.session, step.run.id),
    )


def _void_or_refuse(step: _Step, why: str, remedy: str) -> None:
    """The order cannot be worked out any more: a given approval is void, and the run halts."""
    approval = questions.live_approval(step.session, step.run.id)
    if approval is None:
        step.halt(RunEvent.START_REFUSED, why, remedy)
        return
    approvals.void(step.session, approval, why, step.now, number=step.run.incident_number)
    step.halt(RunEvent.APPROVAL_VOIDED, f"The approval is void: {why}", remedy)


def _may_change(step: _Step, plan: Plan, artefact: bytes | None) -> bool:
    """All that a change demands, together; False when the run was moved elsewhere instead."""
    return (
        _gate_before_is_good(step, plan)
        and _source_still_fires(step)
        and _was_tested(step, plan)
        and _is_approved(step, plan, artefact)
    )


def _gate_before_is_good(step: _Step, plan: Plan) -> bool:
    if plan.leg.role is Role.ROLLBACK and step.journey.rollback_of(plan.step.id):
        return True  # entered by a person's decision, bound by its own approval; measured by the gate that follows
    gate = step.journey.gate_before(plan.leg.id)
    if gate is None:
        step.halt(
            RunEvent.START_REFUSED, f"{plan.leg.id} changes a target and has no gate before it.", "Mend the runbook."
        )
        return False
    verdict = runs.last_verdict(step.session, step.run.id, gate.id)
    if verdict is None or verdict.verdict is not Verdict.HELD:
        step.halt(
            RunEvent.START_REFUSED, f"The gate {gate.id} before {plan.leg.id} did not hold.", "Retry measures it."
        )
        return False
    undoes = plan.leg.role is Role.ROLLBACK  # of a rehearsal: going back to its gate would rehearse a second time
    if not undoes and step.now - verdict.ended_at > timedelta(seconds=gate.fresh_for_s):
        step.run = machine.move(
            step.session,
            step.run,
            RunEvent.GATE_STALE,
            step.now,
            text=f"{gate.id} held too long ago; measuring it again.",
            leg=gate.id,
        )
        return False
    return True


def _source_still_fires(step: _Step) -> bool:
    """A resolve from the source stops the run before its next change, unless a person decided after it to go on."""
    with step.session.no_autoflush:  # nothing of this transaction is about alerts; the run is written once, at its end
        resolved = incidents.resolved_at(step.session, step.run.incident_number)
    if resolved is None:
        return True
    decided = [row.decided_at for row in questions.escalations(step.session, step.run.id) if row.decided_at is not None]
    if decided and max(decided) > resolved:
        return True
    step.halt(
        RunEvent.SOURCE_RESOLVED,
        "The source says that the alert is over, so nothing more is changed.",
        "Abandon if it is well. Retry goes on regardless.",
    )
    return False


def _was_tested(step: _Step, plan: Plan) -> bool:
    """What goes to a protected target went to an unprotected one before, with the same content digest, and finished."""
    if plan.target is None or not plan.target.protected:
        return True
    for attempt in runs.attempts(step.session, step.run.id):
        target = step.snapshot.runbook.targets.get(attempt.target or "")
        tested = attempt.changes and attempt.state is AttemptState.FINISHED and target is not None
        if tested and target is not None and not target.protected and attempt.content_digest == plan.content_digest:
            return True
    _void_or_refuse(
        step,
        "What would be applied is not what was tested: the content digest differs from the one on staging.",
        "Retry tests it anew; find out what changed (image, runbook, artefact).",
    )
    return False


def _is_approved(step: _Step, plan: Plan, artefact: bytes | None) -> bool:
    """A yes to exactly this order, consumed here; asked for when there is none."""
    undo = plan.leg.role is Role.ROLLBACK and step.journey.rollback_of(plan.step.id) is not None
    if plan.step.approval is None and not undo:
        return True
    if plan.leg.role is Role.REHEARSAL:
        return True
    approval = questions.live_approval(step.session, step.run.id)
    if approval is None:
        if undo:
            step.halt(RunEvent.START_REFUSED, "A rollback runs only on a person's decision.", "Decide: roll back.")
            return False
        step.run = approvals.request(
            step.session,
            step.run,
            plan,
            step.world.preview(plan.step, artefact) if artefact else "",
            step.now,
            until=_fresh_until(step, plan),
        )
        return False
    return _used(step, approval, approvals.mismatch(approval, step.run, plan, step.world))


def _may_go_on(step: _Step, plan: Plan) -> bool:
    """An agent that asked about one call goes on with the yes to exactly that call, consumed here."""
    approval = questions.live_approval(step.session, step.run.id)
    if approval is None:
        return True  # it begins; or its worker died, and a yes that was used for its call stands beside the call
    return _used(step, approval, calls.mismatch(step.session, approval, step.run, plan, step.world))


def _used(step: _Step, approval: models.Approval, mismatch: str) -> bool:
    """Use the approval up; one that does not bind what is about to start is void instead, and the run halts."""
    if mismatch:
        approvals.void(step.session, approval, mismatch, step.now, number=step.run.incident_number)
        step.halt(RunEvent.APPROVAL_VOIDED, f"The approval is void: {mismatch}", "Retry measures and asks anew.")
        return False
    questions.end_approval(step.session, approval, ApprovalState.CONSUMED, source=ApprovalState.APPROVED)
    return True


def _fresh_until(step: _Step, plan: Plan) -> datetime | None:
    gate = step.journey.gate_before(plan.leg.id)
    verdict = runs.last_verdict(step.session, step.run.id, gate.id) if gate else None
    return verdict.ended_at + timedelta(seconds=gate.fresh_for_s) if gate and verdict else None


def _end(step: _Step, leg: Leg) -> None:
    if leg.kind is LegKind.ROLLED_BACK:
        text = "The change was undone, and the gate after it held."
        step.run = machine.move(step.session, step.run, RunEvent.ROLLED_BACK, step.now, text=text)
        return
    step.run = machine.move(step.session, step.run, RunEvent.COMPLETED, step.now, text="Every gate held.")
    close_if_over(step.session, step.run.incident_number, step.now)
