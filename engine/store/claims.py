"""Workers and their claims: who drives which run, and until when. Liveness is told by the database's clock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.states import FINAL, LOST_WITH_ITS_WORKER
from engine.store import models

Worker = models.Worker
Run = models.Run


@dataclass(frozen=True, slots=True)
class Orphan:
    """A run whose worker has ended. `host`: who can destroy the VMs of that worker."""

    run_id: str
    worker: str
    host: str


def _now(session: Session, plus_s: float = 0) -> Any:
    """The database's clock, and so many seconds: the clocks of two machines never agree."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC) + timedelta(seconds=plus_s)
    clock = sa.func.clock_timestamp(type_=sa.DateTime(timezone=True))
    return clock + sa.literal(timedelta(seconds=plus_s), sa.Interval())


def join(session: Session, worker: models.Worker, lasts_s: float) -> None:
    """A worker begins; it is alive for `lasts_s`."""
    session.add(worker)
    session.flush()
    beat(session, worker.id, lasts_s)


def beat(session: Session, worker_id: str, lasts_s: float) -> bool:
    """Stay alive for another `lasts_s`; False when this worker was declared dead (or left)."""
    return _set(session, Worker.id == worker_id, alive_until=_now(session, lasts_s)) == 1


def leave(session: Session, worker_id: str) -> None:
    """A worker ends in good order."""
    _set(session, Worker.id == worker_id, ended_at=_now(session))


def declare_dead(session: Session, margin_s: float = 0) -> tuple[str, ...]:
    """End every worker whose claims ended `margin_s` ago or earlier; returns which."""
    overdue = Worker.alive_until < _now(session, -margin_s)
    late = tuple(session.scalars(sa.select(Worker.id).where(Worker.ended_at.is_(None), overdue)))
    return tuple(each for each in late if _set(session, Worker.id == each, overdue, ended_at=_now(session)))


def end_all_others(session: Session, process: str) -> None:
    """This process is the only one (it holds the lock of the installation): whoever else is named is gone."""
    _set(session, Worker.process != process, ended_at=_now(session))


def _set(session: Session, *where: Any, **values: Any) -> int:
    update = sa.update(Worker).where(Worker.ended_at.is_(None), *where).values(**values)
    return session.connection().execute(update).rowcount


def processes(session: Session, host: str) -> tuple[str, ...]:
    """The processes of this host that live, as far as anybody knows."""
    query = sa.select(Worker.process).where(Worker.host == host, Worker.ended_at.is_(None))
    return tuple(session.scalars(query.distinct()))


def lost_to(session: Session, worker_id: str, at_work: Collection[str]) -> tuple[str, ...]:
    """Of the runs that a worker works for, those that are no longer its own, or whose step must not go on."""
    moving = sa.select(Run.id).where(
        Run.id.in_(at_work), Run.worker == worker_id, Run.state.not_in(sorted(FINAL)), sa.not_(_is_switched())
    )
    mine = set(session.scalars(moving))
    return tuple(run_id for run_id in at_work if run_id not in mine)


def _is_switched() -> Any:
    newest = sa.select(models.KillSwitch.on).order_by(models.KillSwitch.id.desc()).limit(1).scalar_subquery()
    return sa.func.coalesce(newest, sa.false())


def of(session: Session, worker_id: str) -> tuple[str, ...]:
    """The runs that a worker claims."""
    return tuple(session.scalars(sa.select(Run.id).where(Run.worker == worker_id)))


def orphans(session: Session) -> tuple[Orphan, ...]:
    """Runs that a worker claims which has ended."""
    query = sa.select(Run.id, Worker.id, Worker.host).join(Worker, Worker.id == Run.worker)
    rows = session.execute(query.where(Worker.ended_at.is_not(None)).order_by(Run.opened_at))
    return tuple(Orphan(run_id, worker_id, host) for run_id, worker_id, host in rows)


def unclaimed_under_way(session: Session) -> tuple[str, ...]:
    """Runs under way that nobody claims: left by a release that knew no claims."""
    query = sa.select(Run.id).where(Run.state.in_(sorted(LOST_WITH_ITS_WORKER)), Run.worker.is_(None))
    return tuple(session.scalars(query))


def due(session: Session, now: datetime) -> tuple[str, ...]:
    """Runs at which somebody must look now."""
    return tuple(session.scalars(sa.select(Run.id).where(Run.wake_at <= now).order_by(Run.wake_at)))


def living(session: Session) -> tuple[models.Worker, ...]:
    """The workers that live, oldest first.

    On Postgres one whose claims ended is not among them, though nobody may be left who could declare it dead. On SQLite
    a worker lives as long as the one process, which renews nothing.
    """
    query = sa.select(Worker).where(Worker.ended_at.is_(None)).order_by(Worker.started_at)
    if session.get_bind().dialect.name != "sqlite":
        query = query.where(Worker.alive_until > _now(session))
    return tuple(session.scalars(query))
