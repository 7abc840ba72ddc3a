"""Wake-ups: hints that a run may have something to do. Collected in a transaction, sent with it.

A doubled one finds the run claimed or moved on; a lost one is sent again by the watch (`wake_at`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from engine.store import models

WAKE = "wake"


@dataclass(frozen=True, slots=True)
class WakeUp:
    """For whom: any worker of this pool. Of several, the one with the highest priority goes first."""

    run_id: str
    pool: str
    priority: int


def wake(session: Session, run: models.Run) -> None:
    """Ask for this run to be driven, once the transaction of `session` has committed."""
    session.info.setdefault(WAKE, {})[run.id] = WakeUp(run.id, run.pool, run.priority)


def not_needed(session: Session, run_id: str) -> None:
    """Whoever drives this run goes on with it."""
    session.info.get(WAKE, {}).pop(run_id, None)


def taken(session: Session) -> Collection[WakeUp]:
    """What was collected; it is no longer the session's."""
    wake_ups: dict[str, WakeUp] = session.info.pop(WAKE, {})
    return wake_ups.values()
