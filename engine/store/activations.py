"""Which edition of each runbook is activated: the newest row says so."""

from __future__ import annotations

import base64
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.incident import Person
from engine.domain.runbook import Snapshot
from engine.store import models


def newest(session: Session, runbook: str) -> models.Activation | None:
    """What was last said of this runbook."""
    rows = sa.select(models.Activation).where(models.Activation.runbook == runbook)
    return session.scalar(rows.order_by(models.Activation.id.desc()).limit(1))


def add(session: Session, snapshot: Snapshot, *, person: Person, reason: str, now: datetime) -> None:
    """From now on this edition is activated."""
    session.add(
        models.Activation(
            runbook=snapshot.runbook.name,
            on=True,
            digest=snapshot.digest,
            source=snapshot.source,
            files={path: base64.b64encode(data).decode() for path, data in snapshot.files.items()},
            by=person.id,
            by_name=person.name,
            at=now,
            reason=reason,
        )
    )


def withdraw(session: Session, row: models.Activation, *, person: Person, reason: str, now: datetime) -> None:
    """From now on no edition of this runbook is activated."""
    session.add(
        models.Activation(
            runbook=row.runbook,
            on=False,
            digest=row.digest,
            source=row.source,
            files=row.files,
            by=person.id,
            by_name=person.name,
            at=now,
            reason=reason,
        )
    )


def files_of(row: models.Activation) -> dict[str, bytes]:
    """The files of the runbook's folder as they were activated."""
    return {path: base64.b64decode(text) for path, text in row.files.items()}
