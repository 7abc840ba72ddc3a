"""This process as a worker: its row, its beat, and whether its claims still hold.

On SQLite one process does everything under a file lock: its claims hold as long as it lives. On Postgres they hold
until a time by the database's clock, and the worker itself stops short of it, by its own clock: before the beat was
sent + how long it lasts - a margin. Once they ended they never hold again; the worker comes back under another name.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from engine.store import claims, models
from engine.store.session import Database

MARGIN = 0.2
""" So much of a claim's time is kept for ending what runs under it. """


def since_boot() -> float:
    """Seconds, counted through SIGSTOP and through the suspension of the machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Claim:
    """The right of this process to drive runs. `lasts_s`: how long after its last beat a worker counts as dead."""

    database: Database
    process: str
    host: str
    pool: str
    concurrency: int
    lasts_s: float
    elapsed: Callable[[], float] = since_boot
    id: str = ""
    _until: float = 0.0
    _names: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def join(self, now: datetime) -> None:
        """Begin, under a name that no worker had before. Raises Unavailable."""
        name, asked = f"{self.process}/{next(self._names)}", self.elapsed()
        worker = models.Worker(
            id=name,
            process=self.process,
            host=self.host,
            pool=self.pool,
            concurrency=self.concurrency,
            started_at=now,
            alive_until=now,
        )
        with self.database.transaction() as session:
            claims.join(session, worker, self.lasts_s)
        with self._lock:
            self.id, self._until = name, asked + self.lasts_s * (1 - MARGIN)

    def beat(self) -> bool:
        """Renew; False when the claims ended before. Raises Unavailable."""
        name, asked = self.id, self.elapsed()
        with self.database.transaction() as session:
            alive = claims.beat(session, name, self.lasts_s)
        with self._lock:
            if not alive or not self._holds():
                self._until = 0.0
                return False
            self._until = asked + self.lasts_s * (1 - MARGIN)
            return True

    @property
    def holds(self) -> bool:
        """Whether what this worker does is still its own to do."""
        with self._lock:
            return self._holds()

    def _holds(self) -> bool:
        return bool(self.id) and (not self.database.is_shared or self.elapsed() < self._until)

    def end(self) -> None:
        """The claims do not hold any more, whatever the database says."""
        with self._lock:
            self._until = 0.0

    def leave(self) -> None:
        """Tell the others that this worker is gone, in good order or to come back under another name."""
        with self.database.transaction() as session:
            claims.leave(session, self.id)
