"""The rows of a run, written by the same code for everybody who is measured: ours and those it is compared with.

What differs between them is who keeps the place in the journey. The run's update, the attempt, the verdict, the events
with their hashes, the head of the chain and the outbox are the same rows, by the same statements of the store.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.coordination import machine, opening
from engine.coordination.closing import close_if_over
from engine.domain.alert import Severity
from engine.domain.digest import of_value
from engine.domain.incident import Topic
from engine.domain.journey import Journey, Leg, LegKind, plan
from engine.domain.ports import RunbookShelf
from engine.domain.runbook import ScriptStep
from engine.domain.states import AttemptState, RunEvent, Verdict
from engine.store import chain, incidents, models, outbox, runs, wakeups
from engine.store.session import Session
from tests.doubles.toy import alert, toy_runbook

LINE: tuple[Leg, ...] = tuple(leg for leg in plan(toy_runbook()).line if ":" not in leg.id)
""" The nine legs, without the rehearsal's. """
JOURNEY = Journey(line=LINE, rollbacks=())
BOUNDARIES = len(LINE) - 1
""" Boundary k ends leg k and starts leg k + 1; receiving and closing take no work, so they ride along. """
CONTENT = of_value("what a step would run")
CHECKS = [{"check_id": "outside", "type": "http", "definition": "d", "verdict": "held", "why": "w", "samples": []}]


def open_runs(session: Session, shelf: RunbookShelf, names: list[str]) -> tuple[str, ...]:
    """An incident and a run for each of these runbooks; returns the runs' ids."""
    opened, now = [], datetime.now(UTC)
    for name in names:
        snapshot, told = shelf.read(name), alert(name=name)
        incident = incidents.open_incident(
            session, key=name, title=told.title, severity=Severity.CRITICAL, opened_by="fake", now=now
        )
        opened.append(opening.open_run(session, incident, snapshot, told, chosen_by="bench", now=now).id)
    return tuple(opened)


def boundary(session: Session, run_id: str, number: int) -> None:
    """Leg `number` ends and the next one starts, in the caller's transaction."""
    run = _locked(session, run_id)
    _end(session, run, number)
    _start(session, run, number + 1)
    written(session)


def start(session: Session, run_id: str, number: int) -> None:
    """Leg `number` starts; the first piece of work is preceded by receiving."""
    run = _locked(session, run_id)
    if number == 1:
        _end(session, run, 0)
    _start(session, run, number)
    written(session)


def end(session: Session, run_id: str, number: int) -> None:
    """Leg `number` ends; the last piece of work is followed by closing."""
    run = _locked(session, run_id)
    _end(session, run, number)
    if number == BOUNDARIES - 1:
        _start(session, run, BOUNDARIES)
    written(session)


def written(session: Session) -> None:
    """What our own session does at its end; wake-ups are the business of whoever carries the run."""
    session.flush()
    runs.write(session)
    chain.write(session)
    outbox.write(session)
    wakeups.taken(session)


def _locked(session: Session, run_id: str) -> models.Run:
    run = runs.lock(session, run_id).run
    runs.remember(session, run_id, runs.Past())
    return run


def _end(session: Session, run: models.Run, number: int) -> None:
    leg, following, now = LINE[number], LINE[number + 1].id, datetime.now(UTC)
    match leg.kind:
        case LegKind.RECEIVE:
            runs.take_locks(session, run.id, [f"staging-{run.id}", f"production-{run.id}"], now)
            machine.move(session, run, RunEvent.LEG_PASSED, now, text="The alert is in.", leg=following)
        case LegKind.ATTEMPT:
            came: dict[str, Any] = {"stdout": "", "stderr": "", "connections": [], "output": None}
            detail: dict[str, Any] = {"attempt": f"{run.id}-{leg.id}", "artefact": None, "result": CONTENT}
            if leg.id == "fix":
                came["artefact_digest"] = detail["artefact"] = runs.keep_artefact(session, run.id, b"the fix")
            attempt = models.Attempt(id=f"{run.id}-{leg.id}")
            machine.end_attempt(session, attempt, AttemptState.FINISHED, now, "", **came)
            _tell(session, run, Topic.LEG_REPORTED, attempt.id, "ended", now)
            text = f"{leg.id} finished; its own word certifies nothing."
            machine.move(session, run, RunEvent.ATTEMPT_FINISHED, now, text=text, leg=following, detail=detail)
        case LegKind.GATE:
            row = models.GateVerdict(
                id=f"{run.id}-{leg.id}",
                run_id=run.id,
                leg=leg.id,
                of=leg.of or "",
                verdict=Verdict.HELD,
                why="all 1 checks held",
                checks=CHECKS,
                begun_at=now,
                ended_at=now,
            )
            runs.add_verdict(session, row)
            _tell(session, run, Topic.GATE_REPORTED, row.id, "verdict", now)
            detail = {"verdict": row.id, "evidence": CONTENT}
            text = f"{leg.id} held: {row.why}."
            machine.move(session, run, RunEvent.GATE_HELD, now, text=text, leg=following, detail=detail)


def _start(session: Session, run: models.Run, number: int) -> None:
    leg, now = LINE[number], datetime.now(UTC)
    match leg.kind:
        case LegKind.GATE:
            machine.move(session, run, RunEvent.JUDGING_STARTED, now, text=f"Measuring {leg.id}.")
        case LegKind.CLOSE:
            machine.move(session, run, RunEvent.COMPLETED, now, text="Every gate held.")
            close_if_over(session, run.incident_number, now)
        case LegKind.ATTEMPT:
            attempt = runs.add_attempt(session, _attempt(run, leg, now))
            detail = {"attempt": attempt.id, "content": CONTENT, "order": CONTENT}
            text = f"{leg.id} started on {attempt.target}."
            machine.move(session, run, RunEvent.ATTEMPT_STARTED, now, text=text, detail=detail)
            _tell(session, run, Topic.LEG_REPORTED, attempt.id, "started", now)


def _attempt(run: models.Run, leg: Leg, now: datetime) -> models.Attempt:
    step = leg.step
    assert isinstance(step, ScriptStep)  # noqa: S101 - what an attempt is made of
    return models.Attempt(
        id=f"{run.id}-{leg.id}",
        run_id=run.id,
        leg=leg.id,
        step=step.id,
        target=step.target,
        changes=step.target is not None,
        idempotent=step.idempotent,
        state=AttemptState.STARTED,
        worker="bench",
        started_at=now,
        content_digest=CONTENT,
        order_digest=CONTENT,
        uses_digest=None,
        dead_by=now + timedelta(seconds=step.timeout_s),
    )


def _tell(session: Session, run: models.Run, topic: Topic, subject: str, what: str, now: datetime) -> None:
    key = f"attempt:{subject}:{what}"
    outbox.tell(session, topic, run.incident_number, subject, key, outbox.REPORTS, now)
