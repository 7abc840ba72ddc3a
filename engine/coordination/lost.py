"""What is done about a run whose worker is gone. Never a silent second run of what must not run twice."""

from __future__ import annotations

from datetime import datetime

from engine.coordination import machine
from engine.coordination.escalation import halt
from engine.coordination.results import unknown_outcome
from engine.domain.incident import Topic
from engine.domain.journey import Journey
from engine.domain.records import said
from engine.domain.runbook import Snapshot
from engine.domain.states import FINAL, AttemptState, RunEvent, RunState
from engine.store import evidence, incidents, models, outbox, runs
from engine.store.session import Session
from engine.store.wakeups import wake

RETRIED_AT_MOST = 2
""" An idempotent step whose worker dies again and again is no accident: a person is asked. """
NO_END_SEEN = frozenset({AttemptState.STARTED, AttemptState.LOST, AttemptState.UNKNOWN})
MEASURED_ANEW_AT_MOST = 1
""" A crash while a gate measures: it measures once anew, then it is inconclusive. """


def worker_died(
    session: Session,
    run: models.Run,
    snapshot: Snapshot,
    journey: Journey,
    now: datetime,
    *,
    defect: str = "",
    seen_dead: bool = True,
) -> None:
    """The worker that drove this run is gone. Never a silent second run of what must not run twice.

    Not `seen_dead`: nobody could see its VM destroyed, so nothing of this run starts before it has ended itself.
    """
    attempt = runs.started_attempt(session, run.id)
    run.worker = None
    if not seen_dead:
        run.not_before = _vms_dead_by(session, run, now)
    if run.state in FINAL:
        run.wake_at = run.not_before
        if run.not_before is None:
            machine.let_go(session, run)
        return
    if run.state is RunState.JUDGING:
        _measuring_lost(session, run, snapshot, journey, now)
        return
    if run.state is RunState.QUEUED and defect:
        halt(
            session,
            run,
            RunEvent.START_REFUSED,
            now,
            journey=journey,
            runbook=snapshot.runbook,
            why=f"Signalbox met a defect before {run.leg}: {defect}",
            remedy="The log has it. Retry once it is mended.",
        )
        return
    if run.state is RunState.QUEUED:
        wake(session, run)
    elif run.state is RunState.RUNNING and attempt is not None:
        _attempt_lost(session, run, attempt, snapshot, journey, now)


def _attempt_lost(
    session: Session,
    run: models.Run,
    attempt: models.Attempt,
    snapshot: Snapshot,
    journey: Journey,
    now: datetime,
) -> None:
    lost = [row for row in runs.attempts(session, run.id) if row.leg == run.leg and row.state is AttemptState.LOST]
    again = attempt.idempotent and len(lost) < RETRIED_AT_MOST
    state = machine.give_up_attempt(session, attempt, now, "its worker died", again=again)
    if state is None:
        return
    key = f"attempt:{attempt.id}:ended"
    outbox.tell(session, Topic.LEG_REPORTED, run.incident_number, attempt.id, key, outbox.REPORTS, now)
    if state is AttemptState.LOST:
        text = f"{attempt.leg} was lost with its worker; it may run again, and does."
        machine.move(session, run, RunEvent.ATTEMPT_LOST, now, text=text, detail=said(evidence.result(attempt)))
        return
    why = f"Outcome unknown: {attempt.leg} was under way when its worker died. It may or may not have worked."
    if attempt.changes:
        why = unknown_outcome(attempt, "its worker died")
    if run.not_before is not None:
        why = f"{why} Its VM may still be at work until {run.not_before:%H:%M:%S} UTC; nothing starts before."
    halt(
        session,
        run,
        RunEvent.ATTEMPT_UNKNOWN,
        now,
        journey=journey,
        runbook=snapshot.runbook,
        why=why,
        remedy="Look at the target before you decide.",
        detail=said(evidence.result(attempt)),
    )


def _vms_dead_by(session: Session, run: models.Run, now: datetime) -> datetime | None:
    """When whatever VM may still work for this run has ended itself; None when there can be none."""
    ends = [row.dead_by for row in runs.attempts(session, run.id) if row.state in NO_END_SEEN and row.dead_by]
    return max(ends) if ends and max(ends) > now else None


def _measuring_lost(session: Session, run: models.Run, snapshot: Snapshot, journey: Journey, now: datetime) -> None:
    kinds = [RunEvent.JUDGING_STARTED.value, RunEvent.JUDGING_LOST.value]
    since = incidents.kinds_since_last_verdict(session, run.id, kinds)
    if since.count(RunEvent.JUDGING_LOST.value) < MEASURED_ANEW_AT_MOST:
        text = f"The worker died while {run.leg} was measured: samples discarded, measuring once anew."
        machine.move(session, run, RunEvent.JUDGING_LOST, now, text=text)
        return
    halt(
        session,
        run,
        RunEvent.GATE_INCONCLUSIVE,
        now,
        journey=journey,
        runbook=snapshot.runbook,
        why=f"The gate {run.leg} could not be measured: its worker died twice.",
        remedy="Retry measures again.",
    )
