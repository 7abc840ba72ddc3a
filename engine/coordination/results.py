"""What came back from an attempt, written at the boundary; and what is done about attempts whose worker died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from engine.coordination import machine
from engine.coordination.escalation import halt
from engine.domain.gate import Json
from engine.domain.incident import Topic
from engine.domain.journey import Journey
from engine.domain.runbook import Snapshot
from engine.domain.states import AttemptState, RunEvent, RunState
from engine.store import incidents, models, outbox, runs
from engine.store.session import Session

RETRIED_AT_MOST = 2
""" An idempotent step whose worker dies again and again is no accident: a person is asked. """
MEASURED_ANEW_AT_MOST = 1
""" A crash while a gate measures: it measures once anew, then it is inconclusive. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What an attempt came to. `unknown`: the command was begun and nobody saw its end."""

    attempt_id: str
    ok: bool
    unknown: bool
    reason: str
    stdout: str = ""
    stderr: str = ""
    output: Json = None
    artefact: bytes | None = None
    connections: tuple[dict[str, object], ...] = ()


def record(
    session: Session, run: models.Run, ended: Ended, snapshot: Snapshot, journey: Journey, now: datetime
) -> None:
    """Write what an attempt came to and move the run. A late result is kept as evidence and moves nothing."""
    attempt = runs.get_attempt(session, ended.attempt_id)
    attempt.stdout, attempt.stderr, attempt.connections = ended.stdout, ended.stderr, list(ended.connections)
    attempt.output = ended.output if isinstance(ended.output, dict) else None
    if ended.artefact is not None:
        attempt.artefact_digest = runs.keep_artefact(session, ended.artefact)
    state = AttemptState.FINISHED if ended.ok else AttemptState.FAILED
    if ended.unknown:
        state = AttemptState.UNKNOWN if attempt.changes else AttemptState.FAILED
    if not machine.end_attempt(session, attempt.id, state, now, ended.reason):
        attempt.late = True
        _late(session, run, attempt, now)
        return
    key = f"attempt:{attempt.id}:ended"
    outbox.tell(session, Topic.LEG_REPORTED, run.incident_number, attempt.id, key, outbox.REPORTS, now)
    if run.state is not RunState.RUNNING:
        _late(session, run, attempt, now)
        return
    if state is AttemptState.FINISHED:
        following = journey.after(run.leg).id
        text = f"{run.leg} finished; its own word certifies nothing."
        detail = {"attempt": attempt.id, "artefact": attempt.artefact_digest}
        machine.move(session, run, RunEvent.ATTEMPT_FINISHED, now, text=text, leg=following, detail=detail)
        return
    unknown = state is AttemptState.UNKNOWN
    halt(
        session,
        run,
        RunEvent.ATTEMPT_UNKNOWN if unknown else RunEvent.ATTEMPT_FAILED,
        now,
        journey=journey,
        runbook=snapshot.runbook,
        why=_unknown(attempt, ended.reason) if unknown else f"{attempt.leg} did not work: {ended.reason}",
        remedy="Look at the target before you decide." if attempt.changes else "",
    )


def _unknown(attempt: models.Attempt, reason: str) -> str:
    return f"Outcome unknown: {attempt.leg} was changing {attempt.target} when {reason}. It may or may not have worked."


def _late(session: Session, run: models.Run, attempt: models.Attempt, now: datetime) -> None:
    incidents.append_event(
        session,
        number=run.incident_number,
        run_id=run.id,
        at=now,
        kind="late_result_kept",
        actor=machine.MACHINE,
        text=f"{attempt.leg} came back after it had been given up: evidence only.",
        detail={"attempt": attempt.id},
    )


def worker_died(
    session: Session, run: models.Run, snapshot: Snapshot, journey: Journey, now: datetime, defect: str = ""
) -> None:
    """The worker that drove this run is gone. Never a silent second run of what must not run twice."""
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
    attempt = runs.started_attempt(session, run.id)
    if run.state is not RunState.RUNNING or attempt is None:
        return
    lost = [row for row in runs.attempts(session, run.id) if row.leg == run.leg and row.state is AttemptState.LOST]
    again = attempt.idempotent and len(lost) < RETRIED_AT_MOST
    state = machine.give_up_attempt(session, attempt, now, "its worker died", again=again)
    if state is None:
        return
    key = f"attempt:{attempt.id}:ended"
    outbox.tell(session, Topic.LEG_REPORTED, run.incident_number, attempt.id, key, outbox.REPORTS, now)
    if state is AttemptState.LOST:
        text = f"{attempt.leg} was lost with its worker; it may run again, and does."
        machine.move(session, run, RunEvent.ATTEMPT_LOST, now, text=text, detail={"attempt": attempt.id})
        return
    why = f"Outcome unknown: {attempt.leg} was under way when its worker died. It may or may not have worked."
    if attempt.changes:
        why = _unknown(attempt, "its worker died")
    halt(
        session,
        run,
        RunEvent.ATTEMPT_UNKNOWN,
        now,
        journey=journey,
        runbook=snapshot.runbook,
        why=why,
        remedy="Look at the target before you decide.",
    )


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
