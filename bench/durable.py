"""DBOS as the carrier: a workflow a run, one transaction of its datasource a boundary, and one step between two.

Apart from the other contenders, because only `scripts/setup.sh bench` installs DBOS.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, SQLAlchemyDatasource

from bench import rows
from bench.contenders import WARM_UP, Sample, ServerCount, opened
from bench.counting import Counter
from engine.store import migrate
from engine.store.session import Database, open_engine

_source: Any = None
_isolation = ""


def _boundary(run_id: str, number: int) -> None:
    rows.boundary(_source.sql_session(), run_id, number)


def _work(number: int) -> int:
    return number


_step: Any = DBOS.step()(_work)


def _carry(run_id: str) -> None:
    for number in range(rows.BOUNDARIES):
        _source.run_tx_step({"name": "boundary", "isolation_level": _isolation}, _boundary, run_id, number)
        if number < rows.BOUNDARIES - 1:
            _step(number)


_workflow: Any = DBOS.workflow()(_carry)


@dataclass(slots=True)
class Durable:
    """DBOS on the same database, with our settings of the connections (WAL and FULL on SQLite)."""

    url: str
    name: str = "DBOS, a step a step"
    most: int = 1000

    def carry(self, numbers: Iterator[int], runs: int, at_once: int) -> Sample:
        """Launching it and opening the rows are not within the time; starting the workflows is."""
        global _source, _isolation  # noqa: PLW0603 - DBOS knows workflows by module, so what they need lies there
        database = Database(self.url)
        migrate.upgrade(database)
        sqlite = not database.is_shared
        _isolation = "SERIALIZABLE" if sqlite else "READ COMMITTED"
        system = _system_engine(self.url) if sqlite else sa.create_engine(self.url, pool_size=20, max_overflow=20)
        domain = open_engine(self.url)
        url = self.url.replace("+psycopg", "")
        DBOS(
            config={
                "name": "bench",
                "system_database_url": url,
                "system_database_engine": system,
                "log_level": "ERROR",
                "application_version": "1",
                "use_listen_notify": not sqlite,
            }
        )
        _source = SQLAlchemyDatasource.create(self.url, engine=domain)
        DBOS.launch()
        try:
            _all(opened(database, numbers, WARM_UP), at_once)
            ids = opened(database, numbers, runs)
            with Counter((system, domain)) as counter, ServerCount(self.url) as server:
                begun = time.perf_counter()
                _all(ids, at_once)
                seconds = time.perf_counter() - begun
            return server.sample(runs, seconds, counter)
        finally:
            DBOS.destroy()
            for engine in (system, domain):
                engine.dispose()
            database.close()


def _all(run_ids: tuple[str, ...], at_once: int) -> None:
    def one(run_id: str) -> None:
        DBOS.start_workflow(_workflow, run_id).get_result()

    with ThreadPoolExecutor(at_once) as threads:
        for each in [threads.submit(one, run_id) for run_id in run_ids]:
            each.result()


def _system_engine(url: str) -> sa.Engine:
    """DBOS's own tables on SQLite, with WAL and FULL as ours; it begins its transactions itself."""
    engine = sa.create_engine(url, connect_args={"check_same_thread": False}, pool_size=20, max_overflow=20)

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
