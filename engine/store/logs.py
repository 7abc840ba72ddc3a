"""What attempts print while they run: one row each, its text the redacted end of both streams as they came."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa

from engine.store import models
from engine.store.session import Session


def keep(session: Session, attempt_id: str, text: str, now: datetime) -> None:
    """Put this in the place of what was kept of the attempt before. `text`: redacted and cut already."""
    session.merge(models.AttemptLog(attempt_id=attempt_id, text=text, updated_at=now))


def texts(session: Session, attempt_ids: Collection[str]) -> Mapping[str, str]:
    """What is kept of these attempts, by id."""
    if not attempt_ids:
        return {}
    log = models.AttemptLog
    found = session.execute(sa.select(log.attempt_id, log.text).where(log.attempt_id.in_(attempt_ids)))
    return {row.attempt_id: row.text for row in found}
