"""What came back from an attempt, written at the boundary. One whose worker died: `engine.coordination.lost`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from engine.coordination import calls, machine
from engine.coordination.escalation import halt
from engine.domain.agent import Asked
from engine.domain.gate import Json
from engine.domain.incident import Topic
from engine.domain.journey import Journey
from engine.domain.records import said
from engine.domain.runbook import ScriptStep, Snapshot, Tool
from engine.domain.states import AttemptState, RunEvent, RunState
from engine.store import chain, conversations, evidence, models, outbox, runs
from engine.store.session import Session

WRITTEN = frozenset({AttemptState.FINISHED, AttemptState.FAILED, AttemptState.PAUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What an attempt came to. `unknown`: the command was begun and nobody saw its end. `asked`: an agent's call that
    a person must allow before another attempt goes on."""

    attempt_id: str
    ok: bool
    unknown: bool
    reason: str
    stdout: str = ""
    stderr: str = ""
    output: Json = None
    artefact: bytes | None = None
    connections: tuple[dict[str, object], ...] = ()
    asked: Asked | None = None


def record(
    session: Session, run: models.Run, ended: Ended, snapshot: Snapshot, journey: Journey, now: datetime
) -> None:
    """Write what an attempt came to and move the run. A late result is kept as evidence and moves nothing."""
    attempt = runs.get_attempt(session, run.id, ended.attempt_id)
    if attempt.state in WRITTEN:
        return  # we wrote it before, and did not hear that it was committed
    call: models.AgentCall | None = None
    if ended.asked is not None:
        call, why = calls.waiting(session, attempt, ended.asked)
        ended = ended if call is not None else replace(ended, ok=False, reason=why)
    state = AttemptState.PAUSED if call is not None else _state(attempt, ended)
    came = _came(session, run, ended)
    if not machine.end_attempt(session, attempt, state, now, ended.reason, **came):
        runs.keep_late(session, attempt, **came)
        _late(session, run, attempt, now)
        return
    key = f"attempt:{attempt.id}:ended"
    outbox.tell(session, Topic.LEG_REPORTED, run.incident_number, attempt.id, key, outbox.REPORTS, now)
    if run.state is not RunState.RUNNING:
        _late(session, run, attempt, now)
        return
    if call is not None and ended.asked is not None:
        calls.ask(session, run, attempt, call, ended.asked.why, now)
        return
    detail = said(evidence.result(attempt))
    if state is AttemptState.FINISHED:
        if _is_an_agent_s(journey, run.leg):
            conversations.close(session, run.id, now)
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


def _state(attempt: models.Attempt, ended: Ended) -> AttemptState:
    if ended.unknown:
        return AttemptState.UNKNOWN if attempt.changes else AttemptState.FAILED
    return AttemptState.FINISHED if ended.ok else AttemptState.FAILED


def _came(session: Session, run: models.Run, ended: Ended) -> dict[str, Any]:
    came: dict[str, Any] = {
        "stdout": ended.stdout,
        "stderr": ended.stderr,
        "connections": list(ended.connections),
        "output": ended.output if isinstance(ended.output, dict) else None,
    }
    if ended.artefact is not None:
        came["artefact_digest"] = runs.keep_artefact(session, run.id, ended.artefact)
    return came


def _is_an_agent_s(journey: Journey, leg: str) -> bool:
    step = journey.leg(leg).step
    return isinstance(step, ScriptStep) and step.tool is Tool.AGENT


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
