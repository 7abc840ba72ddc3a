"""The kill switch: while it is on, nothing starts and what runs is stopped. It stays as it was left."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.incident import Person, SwitchView
from engine.store import models


def read(session: Session) -> SwitchView:
    """How it stands, and who left it so."""
    row = session.scalar(sa.select(models.KillSwitch).order_by(models.KillSwitch.id.desc()).limit(1))
    if row is None:
        return SwitchView(on=False)
    return SwitchView(on=row.on, by=Person(id=row.by, name=row.by_name), at=row.at, reason=row.reason)


def throw(session: Session, *, on: bool, person: Person, reason: str, now: datetime) -> None:
    """Leave it so from now on."""
    session.add(models.KillSwitch(on=on, by=person.id, by_name=person.name, at=now, reason=reason))
