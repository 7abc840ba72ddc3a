"""What came back from an attempt, written at the boundary. One whose worker died: `engine.coordination.lost`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.coordination import machine
from engine.coordination.escalation import halt
from engine.domain.gate import Json
from engine.domain.incident import Topic
from engine.domain.journey import Journey
from engine.domain.records import said
from engine.domain.runbook import Snapshot
from engine.domain.states import AttemptState, RunEvent, RunState
from engine.store import chain, evidence, models, outbox, runs
from engine.store.session import Session


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
    attempt = runs.get_attempt(session, run.id, ended.attempt_id)
    came: dict[str, Any] = {
        "stdout": ended.stdout,
        "stderr": ended.stderr,
        "connections": list(ended.connections),
        "output": ended.output if isinstance(ended.output, dict) else None,
    }
    if ended.artefact is not None:
        came["artefact_digest"] = runs.keep_artefact(session, run.id, ended.artefact)
    state = AttemptState.FINISHED if ended.ok else AttemptState.FAILED
    if ended.unknown:
        state = AttemptState.UNKNOWN if attempt.changes else AttemptState.FAILED
    if attempt.state in {AttemptState.FINISHED, AttemptState.FAILED}:
        return  # we wrote it before, and did not hear that it was committed
    if not machine.end_attempt(session, attempt, state, now, ended.reason, **came):
        runs.keep_late(session, attempt, **came)
        _late(session, run, attempt, now)
        return
    key = f"attempt:{attempt.id}:ended"
    outbox.tell(session, Topic.LEG_REPORTED, run.incident_number, attempt.id, key, outbox.REPORTS, now)
    if run.state is not RunState.RUNNING:
        _late(session, run, attempt, now)
        return
    detail = said(evidence.result(attempt))
    if state is AttemptState.FINISHED:
        following = journey.after(run.leg).id
        text = f"{run.leg} finished; its own word certifies nothing."
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
        detail=detail,
        why=unknown_outcome(attempt, ended.reason) if unknown else f"{attempt.leg} did not work: {ended.reason}",
        remedy="Look at the target before you decide." if attempt.changes else "",
    )


def unknown_outcome(attempt: models.Attempt, reason: str) -> str:
    """What a person is told of a change whose end nobody saw."""
    return f"Outcome unknown: {attempt.leg} was changing {attempt.target} when {reason}. It may or may not have worked."


def _late(session: Session, run: models.Run, attempt: models.Attempt, now: datetime) -> None:
    chain.append(
        session,
        number=run.incident_number,
        run_id=run.id,
        at=now,
        kind="late_result_kept",
        actor=machine.MACHINE,
        text=f"{attempt.leg} came back after it had been given up: evidence only.",
        detail=said(evidence.result(attempt)),
    )
