"""Vault tokens that we minted, until they are proved dead."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.states import RunState
from engine.store import models

MOVING = (RunState.QUEUED, RunState.RUNNING, RunState.JUDGING)
_AT_REST = (
    sa.select(models.VaultToken.accessor)
    .join(models.Run, models.Run.id == models.VaultToken.run_id)
    .where(models.VaultToken.revoked_at.is_(None), models.Run.state.not_in(MOVING))
    .order_by(models.VaultToken.kind != "run", models.VaultToken.minted_at)
)


def minted(session: Session, *, accessor: str, run_id: str, attempt_id: str, kind: str, now: datetime) -> None:
    """A token was born."""
    session.add(models.VaultToken(accessor=accessor, run_id=run_id, attempt_id=attempt_id, kind=kind, minted_at=now))
    session.flush()


def revoked(session: Session, accessor: str, now: datetime) -> str | None:
    """A token was proved dead; returns the id of its run, None when that was known (or the token is not)."""
    row = session.get(models.VaultToken, accessor)
    if row is None or row.revoked_at is not None:
        return None
    row.revoked_at, row.failure = now, ""
    return row.run_id


def failed(session: Session, accessor: str, reason: str) -> str | None:
    """A token could not be proved dead; returns the id of its run, None when that is no news."""
    row = session.get(models.VaultToken, accessor)
    if row is None or row.failure:
        return None
    row.failure = reason[:500]
    return row.run_id


def undead(session: Session) -> tuple[str, ...]:
    """Accessors of every token not proved dead yet, run tokens first: their children die with them."""
    query = sa.select(models.VaultToken.accessor).where(models.VaultToken.revoked_at.is_(None))
    return tuple(session.scalars(query.order_by(models.VaultToken.kind != "run", models.VaultToken.minted_at)))


def undead_at_rest(session: Session) -> tuple[str, ...]:
    """Undead accessors of runs that do not move now, run tokens first."""
    return tuple(session.scalars(_AT_REST))


def undead_of(session: Session, run_id: str) -> tuple[str, ...]:
    """Accessors of a run's tokens that were not proved dead yet, run tokens first."""
    query = sa.select(models.VaultToken.accessor).where(
        models.VaultToken.revoked_at.is_(None), models.VaultToken.run_id == run_id
    )
    return tuple(session.scalars(query.order_by(models.VaultToken.kind != "run", models.VaultToken.minted_at)))
