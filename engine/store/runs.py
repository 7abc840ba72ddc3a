"""Runs, attempts, artefacts, verdicts, approvals, escalations, locks: what coordination reads and writes.

A run's state is written by `compare_and_set` only, an attempt's by `end_attempt` only; both are called by
`engine.coordination.machine` and by nothing else (an architecture test proves it).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.digest import of_bytes
from engine.domain.errors import Conflict, Refused
from engine.domain.states import FINAL, ApprovalState, AttemptState, RunState, Verdict
from engine.store import models

FINALS = tuple(sorted(FINAL))


def get(session: Session, run_id: str) -> models.Run:
    """The run as it is now; raises Conflict when there is none."""
    run = session.get(models.Run, run_id, populate_existing=True)
    if run is None:
        raise Conflict(f"there is no run {run_id}")
    return run


def add(session: Session, run: models.Run) -> models.Run:
    """A new run; the database refuses a second active one for its incident."""
    session.add(run)
    session.flush()
    return run


def active(session: Session, number: int) -> models.Run | None:
    """The run of this incident that has not ended."""
    query = sa.select(models.Run).where(models.Run.incident_number == number, models.Run.state.not_in(FINALS))
    return session.scalar(query)


def of_incident(session: Session, number: int) -> tuple[models.Run, ...]:
    """All runs of an incident, oldest first."""
    query = sa.select(models.Run).where(models.Run.incident_number == number)
    return tuple(session.scalars(query.order_by(models.Run.opened_at, models.Run.id)))


def ids_in(session: Session, states: Collection[RunState]) -> tuple[str, ...]:
    """Ids of the runs in these states, oldest first."""
    query = sa.select(models.Run.id).where(models.Run.state.in_(list(states))).order_by(models.Run.opened_at)
    return tuple(session.scalars(query))


def compare_and_set(session: Session, run: models.Run, **values: Any) -> models.Run:
    """Update a run if it is still the version that was read; raises Conflict when it moved on."""
    session.flush()
    update = (
        sa.update(models.Run)
        .where(models.Run.id == run.id, models.Run.version == run.version)
        .values(version=run.version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    if session.connection().execute(update).rowcount != 1:
        raise Conflict(f"run {run.id} moved on meanwhile")
    return get(session, run.id)


def say_waits_for(session: Session, run: models.Run, text: str) -> bool:
    """Remember what a run waits for; True when that is news."""
    if run.waits_for == text:
        return False
    run.waits_for = text
    session.flush()
    return True


# -- attempts and artefacts


def add_attempt(session: Session, attempt: models.Attempt) -> models.Attempt:
    """A started attempt; the database refuses a second one for the run."""
    session.add(attempt)
    session.flush()
    return attempt


def started_attempt(session: Session, run_id: str) -> models.Attempt | None:
    """The attempt that is under way."""
    return session.scalar(
        sa.select(models.Attempt).where(models.Attempt.run_id == run_id, models.Attempt.state == AttemptState.STARTED)
    )


def get_attempt(session: Session, attempt_id: str) -> models.Attempt:
    """The attempt; raises Conflict when there is none."""
    attempt = session.get(models.Attempt, attempt_id, populate_existing=True)
    if attempt is None:
        raise Conflict(f"there is no attempt {attempt_id}")
    return attempt


def end_attempt(session: Session, attempt_id: str, state: AttemptState, now: datetime, reason: str) -> bool:
    """End a started attempt; False when somebody ended it before (its worker was thought dead)."""
    update = (
        sa.update(models.Attempt)
        .where(models.Attempt.id == attempt_id, models.Attempt.state == AttemptState.STARTED)
        .values(state=state, ended_at=now, reason=reason[:4000])
        .execution_options(synchronize_session=False)
    )
    session.flush()
    return session.connection().execute(update).rowcount == 1


def attempts(session: Session, run_id: str) -> tuple[models.Attempt, ...]:
    """All attempts of a run, oldest first."""
    query = sa.select(models.Attempt).where(models.Attempt.run_id == run_id)
    return tuple(session.scalars(query.order_by(models.Attempt.started_at, models.Attempt.id)))


def keep_artefact(session: Session, data: bytes) -> str:
    """Keep an artefact's bytes; returns their digest."""
    digest = of_bytes(data)
    if session.get(models.Artefact, digest) is None:
        session.add(models.Artefact(digest=digest, data=data))
        session.flush()
    return digest


def artefact(session: Session, digest: str) -> bytes:
    """The bytes of an artefact; raises Refused when they are not what their digest says."""
    row = session.get(models.Artefact, digest, populate_existing=True)
    if row is None:
        raise Refused(f"the artefact {digest[:19]} is gone", "retry from the step that makes it")
    if of_bytes(row.data) != digest:
        raise Refused(
            f"the artefact {digest[:19]} was changed after it was made", "find out who can write the database"
        )
    return row.data


# -- verdicts


def add_verdict(session: Session, row: models.GateVerdict) -> None:
    """What a gate found."""
    session.add(row)
    session.flush()


def verdicts(session: Session, run_id: str) -> tuple[models.GateVerdict, ...]:
    """All verdicts of a run, oldest first."""
    query = sa.select(models.GateVerdict).where(models.GateVerdict.run_id == run_id)
    return tuple(session.scalars(query.order_by(models.GateVerdict.ended_at, models.GateVerdict.id)))


def last_verdict(session: Session, run_id: str, leg: str) -> models.GateVerdict | None:
    """The newest verdict of this gate, whatever it says."""
    rows = [row for row in verdicts(session, run_id) if row.leg == leg]
    return rows[-1] if rows else None


def held_evidence(session: Session, run_id: str, legs: Collection[str]) -> tuple[str, ...]:
    """Ids of the newest verdict of each of these gates, where it is held; in the order of `legs`."""
    newest = {leg: last_verdict(session, run_id, leg) for leg in legs}
    return tuple(row.id for row in newest.values() if row is not None and row.verdict is Verdict.HELD)


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


def expired_approvals(session: Session, now: datetime) -> tuple[models.Approval, ...]:
    """Approvals that nobody answered in time."""
    return tuple(
        session.scalars(
            sa.select(models.Approval).where(
                models.Approval.state == ApprovalState.PENDING, models.Approval.expires_at <= now
            )
        )
    )


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
    """The undecided escalation of a run."""
    return session.scalar(
        sa.select(models.Escalation).where(models.Escalation.run_id == run_id, models.Escalation.decided.is_(None))
    )


def escalation_by_token(session: Session, token: str) -> models.Escalation | None:
    """The escalation whose buttons carry this token."""
    return session.scalar(sa.select(models.Escalation).where(models.Escalation.token == token))


def decide_escalation(session: Session, row: models.Escalation, **values: Any) -> None:
    """Write the decision, if none is there yet; raises Conflict when somebody was faster."""
    session.flush()
    update = (
        sa.update(models.Escalation)
        .where(models.Escalation.id == row.id, models.Escalation.decided.is_(None))
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


# -- locks


def take_locks(session: Session, run_id: str, targets: Collection[str], now: datetime) -> str | None:
    """Take all these targets for the run, or none; returns the id of a run that holds one of them."""
    held = session.scalars(sa.select(models.TargetLock).where(models.TargetLock.target.in_(sorted(targets))))
    mine = set()
    for lock in held:
        if lock.run_id != run_id:
            return lock.run_id
        mine.add(lock.target)
    session.add_all(
        models.TargetLock(target=target, run_id=run_id, taken_at=now) for target in sorted(set(targets) - mine)
    )
    session.flush()
    return None


def release_locks(session: Session, run_id: str) -> bool:
    """Give all targets of a run back; False when it held none."""
    held = tuple(session.scalars(sa.select(models.TargetLock).where(models.TargetLock.run_id == run_id)))
    for lock in held:
        session.delete(lock)
    session.flush()
    return bool(held)


def holders(session: Session) -> tuple[str, ...]:
    """Ids of the runs that hold a target."""
    return tuple(session.scalars(sa.select(models.TargetLock.run_id).distinct()))
