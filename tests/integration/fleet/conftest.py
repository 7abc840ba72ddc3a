"""Wake-ups on a real Postgres: a fleet of the test's own, and what it was told to drive."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from engine.orchestration.fleet import Fleet
from engine.store import migrate, models
from engine.store.session import Database, Session
from engine.store.wakeups import wake
from tests.services.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real Postgres of this test run's own."""
    with Postgres.started() as server:
        yield server


@dataclass
class Fleets:
    """Fleets on one database. `driven`: each drive, with when it began."""

    url: str
    database: Database
    driven: list[tuple[str, float]] = field(default_factory=list)
    made: list[Fleet] = field(default_factory=list)

    def start(
        self, pool: str = "default", concurrency: int = 4, drive: Callable[[str], object] = lambda _run_id: None
    ) -> Fleet:
        """A fleet that notes each drive, then does `drive`."""

        def noted(run_id: str) -> None:
            self.driven.append((run_id, time.monotonic()))
            drive(run_id)

        fleet = Fleet(self.url, pool, concurrency, f"worker-{len(self.made)}", noted)
        self.made.append(fleet)
        fleet.start()
        until(lambda: self.listens() >= len(self.made), "it listens")
        return fleet

    def wake(self, *run_ids: str, pool: str = "default", priority: int = 0) -> None:
        """One transaction that wakes these runs."""
        with self.database.transaction() as session:
            for run_id in run_ids:
                self.wake_in(session, run_id, pool, priority)

    def wake_in(self, session: Session, run_id: str, pool: str = "default", priority: int = 0) -> None:
        """Wake a run in this transaction."""
        wake(session, models.Run(id=run_id, pool=pool, priority=priority))

    def measure(self, run_id: str) -> float:
        """Wake a run; how long after the commit it was driven."""
        self.wake(run_id)
        committed = time.monotonic()
        return self.began(run_id) - committed

    def nudge(self, run_id: str) -> None:
        """Wake a run until it is driven: with the poll switched off, a notification during a fetch is forgotten."""

        def driven_now() -> bool:
            self.wake(run_id)
            threading.Event().wait(0.5)
            return run_id in dict(self.driven)

        until(driven_now, f"{run_id} is driven")

    def began(self, run_id: str) -> float:
        """When a run was first driven."""
        until(lambda: run_id in dict(self.driven), f"{run_id} is driven")
        return next(at for name, at in self.driven if name == run_id)

    def listens(self) -> int:
        """How many connections hear of new jobs; none while the server is away."""
        ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        try:
            return self.count(f"{ours} AND query LIKE 'LISTEN%'")
        except sa.exc.OperationalError:
            return 0

    def jobs(self, state: str = "") -> int:
        """How many jobs there are (in a state)."""
        return self.count("SELECT count(*) FROM procrastinate_jobs WHERE :state = '' OR status::text = :state", state)

    def count(self, query: str, state: str = "") -> int:
        with self.database.engine.connect() as connection:
            return int(connection.execute(sa.text(query), {"state": state} if ":state" in query else {}).scalar_one())

    def close(self) -> None:
        for fleet in self.made:
            fleet.stop(10)
        self.database.close()
        with warnings.catch_warnings():
            # what was held of a server that died was never closed, and says so when it is collected
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Wait for a condition; fails with what it was when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain: {what}"
        threading.Event().wait(0.02)


@pytest.fixture
def fleets(postgres: Postgres) -> Iterator[Fleets]:
    """No fleet yet, on a new database."""
    url = postgres.new_database()
    database = Database(url)
    migrate.upgrade(database)
    made = Fleets(url, database)
    yield made
    made.close()
