"""Vault tokens that we minted, until they are proved dead."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.store import models


def minted(session: Session, *, accessor: str, run_id: str, attempt_id: str, kind: str, now: datetime) -> None:
    """A token was born."""
    session.add(models.VaultToken(accessor=accessor, run_id=run_id, attempt_id=attempt_id, kind=kind, minted_at=now))
    session.flush()


def revoked(session: Session, accessor: str, now: datetime) -> None:
    """A token was proved dead."""
    update = sa.update(models.VaultToken).where(models.VaultToken.accessor == accessor)
    session.execute(update.values(revoked_at=now, failure=""))


def failed(session: Session, accessor: str, reason: str) -> None:
    """A token could not be proved dead."""
    update = sa.update(models.VaultToken).where(models.VaultToken.accessor == accessor)
    session.execute(update.values(failure=reason[:500]))


def undead(session: Session) -> tuple[str, ...]:
    """Accessors of every token not proved dead yet, run tokens first: their children die with them."""
    query = sa.select(models.VaultToken.accessor).where(models.VaultToken.revoked_at.is_(None))
    return tuple(session.scalars(query.order_by(models.VaultToken.kind != "run", models.VaultToken.minted_at)))


def undead_count(session: Session, run_id: str) -> int:
    """How many tokens of this run are not proved dead."""
    table = models.VaultToken
    query = sa.select(sa.func.count()).where(table.run_id == run_id, table.revoked_at.is_(None))
    return session.scalar(query) or 0
