"""Runs, their attempts, artefacts, verdicts and locks: what coordination reads and writes.

A run's state is written by `compare_and_set` only, an attempt's by `end_attempt` only; both are called by
`engine.coordination.machine` and by nothing else (an architecture test proves it).

What every step says is made once, of tables and not of mapped classes, and new rows are collected and written at the
end of the transaction (`engine.store.session`): building and mapping cost more than the database does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, undefer_group
from sqlalchemy.orm.attributes import set_committed_value

from engine.domain.digest import of_bytes
from engine.domain.errors import Conflict, Refused
from engine.domain.states import FINAL, LOST_WITH_ITS_WORKER, AttemptState, RunState, Verdict
from engine.store import chain, models

FINALS = tuple(sorted(FINAL))
PAST, ADDED = "past", "added"
_ARTEFACT: Any = models.Artefact.__table__
_ATTEMPT: Any = models.Attempt.__table__
_VERDICT: Any = models.GateVerdict.__table__
_RUNS: Any = models.Run.__table__
_INCIDENT: Any = models.Incident.__table__
_SWITCHES: Any = models.KillSwitch.__table__
_WORKERS: Any = models.Worker.__table__
_KEEP = {
    "postgresql": postgresql.insert(_ARTEFACT).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(_ARTEFACT).on_conflict_do_nothing(),
}
_INSERT = {_ATTEMPT: sa.insert(_ATTEMPT).inline(), _VERDICT: sa.insert(_VERDICT).inline()}
_END = sa.update(_ATTEMPT).where(
    _ATTEMPT.c.id == sa.bindparam("attempt"), _ATTEMPT.c.state == sa.bindparam("was", AttemptState.STARTED)
)
AS_IT_IS: dict[str, Any] = {"autoflush": False}
""" For reading rows that the transaction does not change: what it changed elsewhere is written once, at its end. """


@dataclass(slots=True)
class Past:
    """What was tried and measured in a run so far, oldest first. Read once, then kept up by whoever writes it here.

    `artefacts`: bytes by digest, of those that were made or read since.
    """

    attempts: list[models.Attempt] = field(default_factory=list)
    verdicts: list[models.GateVerdict] = field(default_factory=list)
    artefacts: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Locked:
    """A run that is ours until the transaction ends, and what was true then.

    `switch`: the kill switch is on. `worker_lives`: nobody has declared the asking worker dead.
    """

    run: models.Run
    switch: bool
    worker_lives: bool


def get(session: Session, run_id: str) -> models.Run:
    """The run as it is now; raises Conflict when there is none."""
    session.flush()
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


def in_flight(session: Session) -> tuple[models.Run, ...]:
    """Every run that has not ended, with the runbook that it keeps."""
    query = sa.select(models.Run).where(models.Run.state.not_in(FINALS)).options(undefer_group("runbook"))
    return tuple(session.scalars(query.order_by(models.Run.opened_at, models.Run.id)))


def whole(session: Session, run_id: str) -> models.Run:
    """The run with the runbook that it keeps; raises Conflict when there is none."""
    run = session.get(models.Run, run_id, populate_existing=True, options=[undefer_group("runbook")])
    if run is None:
        raise Conflict(f"there is no run {run_id}")
    return run


_RUN, _WORKER = sa.bindparam("run", type_=sa.String), sa.bindparam("worker", type_=sa.String)
_SWITCH = sa.select(_SWITCHES.c.on).order_by(_SWITCHES.c.id.desc()).limit(1).scalar_subquery()
""" The newest throw of the kill switch. """
_LIVES = sa.select(_WORKERS.c.ended_at.is_(None)).where(_WORKERS.c.id == _WORKER).scalar_subquery()


def _locking(what: Any) -> Any:
    of_run = sa.select(what, _INCIDENT.c.head_seq, _INCIDENT.c.head_hash, _SWITCH, _LIVES).join(
        _INCIDENT, _INCIDENT.c.number == _RUNS.c.incident_number
    )
    return of_run.where(_RUNS.c.id == _RUN).with_for_update(of=[_RUNS, _INCIDENT], key_share=True)


_LOCK = _locking(models.Run).execution_options(populate_existing=True)
_LOCK_KNOWN = _locking(_RUNS.c.version)
_MAY_GO = sa.select(_RUNS.c.state, _SWITCH).where(_RUNS.c.id == _RUN, _RUNS.c.worker == _WORKER)
_TRIED = (
    sa.select(models.Attempt)
    .where(models.Attempt.run_id == _RUN)
    .order_by(models.Attempt.started_at, models.Attempt.id)
    .execution_options(**AS_IT_IS)
)
_FOUND = (
    sa.select(models.GateVerdict)
    .where(models.GateVerdict.run_id == _RUN)
    .order_by(models.GateVerdict.ended_at, models.GateVerdict.id)
    .execution_options(**AS_IT_IS)
)


def may_go(session: Session, run_id: str, worker: str) -> bool:
    """Whether this worker may still begin what the run was moved for."""
    row = session.execute(_MAY_GO, {"run": run_id, "worker": worker}).one_or_none()
    return row is not None and row[0] in LOST_WITH_ITS_WORKER and not row[1]


def lock(session: Session, run_id: str, worker: str = "", known: models.Run | None = None) -> Locked:
    """The run as it is now, locked together with its incident's chain; raises Conflict when there is none.

    `known`: as it was at the end of the transaction before; it is not read again if nobody wrote it since.
    """
    statement = _LOCK if known is None else _LOCK_KNOWN
    row = session.execute(statement, {"run": run_id, "worker": worker}).one_or_none()
    if row is None:
        raise Conflict(f"there is no run {run_id}")
    found, seq, link, on, living = row
    if known is None:
        run: models.Run = found
    elif known.version == found:
        session.add(known)
        run = known
    else:
        run = get(session, run_id)
    chain.know_head(session, run.incident_number, chain.head_of(seq, link))
    return Locked(run, bool(on), bool(living))


def compare_and_set(session: Session, run: models.Run, **values: Any) -> models.Run:
    """Update a run; it is written with the transaction, which fails with Conflict if the run moved on meanwhile."""
    if run not in session:  # it was read in another transaction: its version tells whether it is still so
        session.add(run)
    for name, value in values.items():
        setattr(run, name, value)
    return run


def say_waits_for(run: models.Run, text: str) -> bool:
    """Remember what a run waits for; True when that is news."""
    if run.waits_for == text:
        return False
    run.waits_for = text
    return True


# -- its past


def past(session: Session, run_id: str) -> Past:
    """What was tried and measured so far."""
    known: dict[str, Past] = session.info.setdefault(PAST, {})
    if run_id not in known:
        of_run = {"run": run_id}
        known[run_id] = Past(list(session.scalars(_TRIED, of_run)), list(session.scalars(_FOUND, of_run)))
    return known[run_id]


def remember(session: Session, run_id: str, known: Past) -> None:
    """The past is known: the run is still at the version at which it was read."""
    session.info.setdefault(PAST, {})[run_id] = known


def _add(session: Session, table: Any, row: models.Attempt | models.GateVerdict) -> None:
    """A row that is only read from here on, for it may be known to later transactions too (`Past`)."""
    given = {column.key: value for column in table.c if (value := vars(row).get(column.key)) is not None}
    session.info.setdefault(ADDED, []).append((table, given))


def write(session: Session) -> None:
    """Write the attempts and verdicts that were added. Called at the end of every transaction."""
    for table, given in session.info.pop(ADDED, ()):
        session.connection().execute(_INSERT[table], given)


# -- attempts and artefacts


def add_attempt(session: Session, attempt: models.Attempt) -> models.Attempt:
    """A started attempt; the database refuses a second one for the run."""
    past(session, attempt.run_id).attempts.append(attempt)
    _add(session, _ATTEMPT, attempt)
    return attempt


def started_attempt(session: Session, run_id: str) -> models.Attempt | None:
    """The attempt that is under way."""
    under_way = [row for row in past(session, run_id).attempts if row.state is AttemptState.STARTED]
    return under_way[-1] if under_way else None


def get_attempt(session: Session, run_id: str, attempt_id: str) -> models.Attempt:
    """The attempt; raises Conflict when there is none."""
    for row in past(session, run_id).attempts:
        if row.id == attempt_id:
            return row
    raise Conflict(f"there is no attempt {attempt_id}")


def end_attempt(
    session: Session, attempt: models.Attempt, state: AttemptState, now: datetime, reason: str, **values: Any
) -> bool:
    """End a started attempt; False when somebody ended it before (its worker was thought dead)."""
    ending = {"state": state, "ended_at": now, "reason": reason[:4000], **values}
    write(session)  # it may have been added in this very transaction
    if session.connection().execute(_END, {"attempt": attempt.id, **ending}).rowcount != 1:
        return False
    _now_known(attempt, ending)
    return True


def keep_late(
    session: Session,
    attempt: models.Attempt,
    *,
    stdout: str,
    stderr: str,
    output: Mapping[str, Any] | None,
    connections: list[Any],
    artefact_digest: str | None = None,
) -> None:
    """What came of an attempt after it had been given up: evidence, nothing else."""
    came = {"stdout": stdout, "stderr": stderr, "output": output, "connections": connections, "late": True}
    came["artefact_digest"] = artefact_digest
    write(session)
    update = sa.update(models.Attempt).where(models.Attempt.id == attempt.id).values(**came)
    session.execute(update.execution_options(synchronize_session=False))
    _now_known(attempt, came)


def _now_known(row: models.Attempt, values: Mapping[str, Any]) -> None:
    """What an UPDATE wrote; the row may have been read in another transaction of this drive."""
    for name, value in values.items():
        set_committed_value(row, name, value)


def attempts(session: Session, run_id: str) -> tuple[models.Attempt, ...]:
    """All attempts of a run, oldest first."""
    return tuple(past(session, run_id).attempts)


def keep_artefact(session: Session, run_id: str, data: bytes) -> str:
    """Keep an artefact's bytes, which a step of this run made; returns their digest."""
    digest = of_bytes(data)
    connection = session.connection()
    connection.execute(_KEEP[connection.dialect.name], {"digest": digest, "data": data})
    past(session, run_id).artefacts[digest] = data
    return digest


def artefact(session: Session, run_id: str, digest: str) -> bytes:
    """The bytes of an artefact; raises Refused when they are not what their digest says."""
    known = past(session, run_id).artefacts
    if digest not in known:
        known[digest] = _read_artefact(session, digest)
    return known[digest]


def _read_artefact(session: Session, digest: str) -> bytes:
    query = sa.select(models.Artefact.data).where(models.Artefact.digest == digest)
    data = session.scalar(query, execution_options=AS_IT_IS)
    if data is None:
        raise Refused(f"the artefact {digest[:19]} is gone", "retry from the step that makes it")
    if of_bytes(data) != digest:
        raise Refused(
            f"the artefact {digest[:19]} was changed after it was made", "find out who can write the database"
        )
    return data


# -- verdicts


def add_verdict(session: Session, row: models.GateVerdict) -> None:
    """What a gate found."""
    past(session, row.run_id).verdicts.append(row)
    _add(session, _VERDICT, row)


def verdicts(session: Session, run_id: str) -> tuple[models.GateVerdict, ...]:
    """All verdicts of a run, oldest first."""
    return tuple(past(session, run_id).verdicts)


def last_verdict(session: Session, run_id: str, leg: str) -> models.GateVerdict | None:
    """The newest verdict of this gate, whatever it says. One that came late says nothing about how the run stands."""
    rows = [row for row in verdicts(session, run_id) if row.leg == leg and not row.late]
    return rows[-1] if rows else None


def held_evidence(session: Session, run_id: str, legs: Collection[str]) -> tuple[str, ...]:
    """Ids of the newest verdict of each of these gates, where it is held; in the order of `legs`."""
    newest = {leg: last_verdict(session, run_id, leg) for leg in legs}
    return tuple(row.id for row in newest.values() if row is not None and row.verdict is Verdict.HELD)


# -- locks


def take_locks(session: Session, run_id: str, targets: Collection[str], now: datetime) -> str | None:
    """Take all these targets for the run, or none; returns the id of a run that holds one of them.

    Raises Conflict (with the transaction) when another run takes one at the same moment.
    """
    query = sa.select(models.TargetLock).where(models.TargetLock.target.in_(sorted(targets)))
    held = session.scalars(query, execution_options=AS_IT_IS)
    mine = set()
    for lock in held:
        if lock.run_id != run_id:
            return lock.run_id
        mine.add(lock.target)
    session.add_all(
        models.TargetLock(target=target, run_id=run_id, taken_at=now) for target in sorted(set(targets) - mine)
    )
    return None


def release_locks(session: Session, run_id: str) -> bool:
    """Give all targets of a run back; False when it held none."""
    session.flush()
    release = sa.delete(models.TargetLock).where(models.TargetLock.run_id == run_id)
    return session.connection().execute(release).rowcount > 0


def waiting(session: Session) -> tuple[models.Run, ...]:
    """Of the queued runs that nobody has claimed, those that say what they wait for, most urgent first."""
    return tuple(run for run in queued(session) if run.waits_for)


def queued(session: Session) -> tuple[models.Run, ...]:
    """The queued runs that nobody has claimed, most urgent first."""
    table = models.Run
    query = sa.select(table).where(table.state == RunState.QUEUED, table.worker.is_(None))
    return tuple(session.scalars(query.order_by(table.priority.desc(), table.opened_at)))
