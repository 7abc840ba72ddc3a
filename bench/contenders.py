"""Those that are measured: each carries whole runs of nine steps, so many at once, and says how long that took."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import procrastinate
import sqlalchemy as sa
from procrastinate import jobs

from bench import installation, rows
from bench.counting import Counter
from engine.store import migrate, wakeups
from engine.store.jobs import SENDER
from engine.store.session import Database, Session

WARM_UP = 2
PERSTEP = "perstep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured batch.

    `cpu_s`: of our process, not of the server's. `counter`: what went through SQLAlchemy. `gaps_s`: from the end of
    work to the next.
    """

    steps: int
    seconds: float
    cpu_s: float
    counter: Counter
    gaps_s: tuple[float, ...] = ()
    server_statements: float | None = None
    server_commits: float | None = None

    @property
    def steps_a_second(self) -> float:
        return self.steps / self.seconds


class Contender(Protocol):
    """Carries runs. `most`: how many at once it is asked for at most."""

    name: str
    most: int

    def carry(self, numbers: Iterator[int], runs: int, at_once: int) -> Sample: ...


@dataclass(slots=True)
class Ours:
    """Signalbox itself: driver, boundary, carrier."""

    url: str
    name: str = "Signalbox"
    most: int = 1000

    def carry(self, numbers: Iterator[int], runs: int, at_once: int) -> Sample:
        """Starting the worker and opening the rows are not within the time; waking the runs is."""
        with installation.working(self.url, at_once=at_once) as box:
            box.carry(opened(box.database, numbers, WARM_UP))
            box.stopwatch.gaps.clear()
            ids = opened(box.database, numbers, runs)
            with Counter((box.database.engine,)) as counter, ServerCount(self.url) as server:
                begun = time.perf_counter()
                box.carry(ids)
                seconds = time.perf_counter() - begun
            return server.sample(runs, seconds, counter, tuple(box.stopwatch.gaps))


def _some(numbers: Iterator[int], how_many: int) -> tuple[int, ...]:
    return tuple(itertools.islice(numbers, how_many))


@dataclass(slots=True)
class ServerCount:
    """What Postgres itself counted meanwhile: statements (without BEGIN and COMMIT), and transactions that wrote."""

    url: str
    _engine: sa.Engine | None = None
    _before: tuple[int, int] = (0, 0)
    _after: tuple[int, int] = (0, 0)
    _cpu_s: float = 0.0

    def __enter__(self) -> ServerCount:
        if not self.url.startswith("sqlite"):
            self._engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
            with self._engine.connect() as connection:
                connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            self._before = self._look()
        self._cpu_s = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._cpu_s = time.process_time() - self._cpu_s
        if self._engine is not None:
            self._after = self._look()
            self._engine.dispose()

    def _look(self) -> tuple[int, int]:
        assert self._engine is not None  # noqa: S101 - `__enter__` and `__exit__` have looked
        query = """
            SELECT coalesce(sum(calls), 0)::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint
            FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid
            WHERE d.datname = current_database() AND query !~* '^(begin|commit|rollback|/\\* ours)'
        """
        with self._engine.connect() as connection:
            row = connection.exec_driver_sql("/* ours */" + query).one()
        return int(row[0]), int(row[1])

    def sample(self, runs: int, seconds: float, counter: Counter, gaps_s: tuple[float, ...] = ()) -> Sample:
        """The sample, with what the server counted; SQLite counts nothing."""
        statements, commits = (after - before for before, after in zip(self._before, self._after, strict=True))
        shared = self._engine is not None
        return Sample(
            steps=runs * installation.STEPS,
            seconds=seconds,
            cpu_s=self._cpu_s,
            counter=counter,
            gaps_s=gaps_s,
            server_statements=statements if shared else None,
            server_commits=commits if shared else None,
        )


def opened(database: Database, numbers: Iterator[int], runs: int) -> tuple[str, ...]:
    """The rows of new runs, which nobody is told of yet. Within nobody's time."""
    names = [installation.name(number) for number in _some(numbers, runs)]
    with database.transaction() as session:
        ids = rows.open_runs(session, installation.BenchShelf(), names)
        session.flush()
        wakeups.taken(session)
    return ids


@dataclass(slots=True)
class PerStep:
    """Procrastinate with a job a step; the next one is inserted in the transaction of the result."""

    url: str
    name: str = "Procrastinate, a job a step"
    most: int = 1000

    def carry(self, numbers: Iterator[int], runs: int, at_once: int) -> Sample:
        """Starting the worker and opening the rows are not within the time; inserting the first jobs is."""
        database = Database(self.url)
        migrate.upgrade(database)
        worker = _PerStepWorker(self.url, database, at_once)
        try:
            worker.start()
            worker.carry(opened(database, numbers, WARM_UP))
            ids = opened(database, numbers, runs)
            with Counter((database.engine,)) as counter, ServerCount(self.url) as server:
                begun = time.perf_counter()
                worker.carry(ids)
                seconds = time.perf_counter() - begun
            return server.sample(runs, seconds, counter)
        finally:
            worker.stop()
            database.close()


@dataclass(slots=True)
class _PerStepWorker:
    url: str
    database: Database
    at_once: int
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _serving: asyncio.Task[None] | None = None
    _thread: threading.Thread | None = None
    _ready: threading.Event = field(default_factory=threading.Event)
    _waiting_for: set[str] = field(default_factory=set)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._serve_in_a_loop, daemon=True)
        self._thread.start()
        if not self._ready.wait(installation.PATIENCE_S):
            raise TimeoutError("Procrastinate's worker did not start")

    def stop(self) -> None:
        if self._serving is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._serving.cancel)
            self._thread.join(30)

    def carry(self, run_ids: Collection[str]) -> None:
        self._waiting_for = set(run_ids)
        with self.database.transaction() as session:
            for run_id in run_ids:
                _defer(session, run_id, 1)
        with self._news:
            if not self._news.wait_for(lambda: not self._waiting_for, installation.PATIENCE_S):
                raise TimeoutError("Procrastinate did not carry its runs to their end")

    def step(self, run_id: str, number: int) -> None:
        """One job: start, nothing to do, end; and the next."""
        with self.database.transaction() as session:
            rows.start(session, run_id, number)
        with self.database.transaction() as session:
            rows.end(session, run_id, number)
            if number < rows.BOUNDARIES - 1:
                _defer(session, run_id, number + 1)
        if number == rows.BOUNDARIES - 1:
            with self._news:
                self._waiting_for.discard(run_id)
                self._news.notify_all()

    def _serve_in_a_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_default_executor(ThreadPoolExecutor(self.at_once + 4))
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _serve(self) -> None:
        conninfo = sa.engine.make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo, min_size=1, max_size=4))
        app.task(name=PERSTEP, queue=PERSTEP)(self.step)
        async with app.open_async():
            self._serving = asyncio.ensure_future(
                app.run_worker_async(
                    queues=[PERSTEP],
                    concurrency=self.at_once,
                    fetch_job_polling_interval=0.2,
                    delete_jobs=jobs.DeleteJobCondition.ALWAYS,
                    install_signal_handlers=False,
                )
            )
            self._ready.set()
            try:
                await self._serving
            except asyncio.CancelledError:
                return


def _defer(session: Session, run_id: str, number: int) -> None:
    connection: Any = session.connection().connection.driver_connection
    deferrer = SENDER.configure_task(name=PERSTEP, queue=PERSTEP, connection=connection)
    deferrer.defer(run_id=run_id, number=number)
