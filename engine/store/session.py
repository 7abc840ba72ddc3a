"""Opening a database and one transaction at a time, on SQLite and on Postgres alike.

Wake-ups collected in a transaction leave only after its commit, so that nobody runs ahead of rows that are not there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from engine.domain.errors import BadInput, Conflict, Unavailable

__all__ = ["Database", "Session", "open_engine"]

BUSY_TIMEOUT_MS = 30_000
DRIVING = 7_310_226
""" The advisory lock of whoever drives runs; any number that nobody else uses on this database. """


def open_engine(url: str) -> sa.Engine:
    """An engine with the same promises on both dialects.

    SQLite: WAL, `synchronous=FULL` ("started" must survive a power cut), foreign keys on, and BEGIN IMMEDIATE, for a
    transaction that reads first and writes later fails with "database is locked" otherwise.
    Raises BadInput for what is no URL of a database that we can speak to.
    """
    if not url.startswith("sqlite"):
        try:
            return sa.create_engine(url, pool_pre_ping=True)
        except (sa.exc.ArgumentError, ImportError) as error:
            remedy = "write postgresql+psycopg://USER:PASSWORD@HOST/NAME, and pip install 'signalbox[postgres]'"
            raise BadInput(f"SIGNALBOX_DATABASE_URL cannot be used ({type(error).__name__})", remedy) from None
    database = sa.engine.make_url(url).database
    if database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # the DBAPI connection; we say BEGIN ourselves
        cursor = connection.cursor()  # type: ignore[attr-defined]  # as above
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


class Database:
    """One database. `on_wake` is called with a run's id after the commit of the transaction that made it runnable."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self.on_wake: Callable[[str], None] = lambda _run_id: None

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: commits when the block ends, rolls back when it raises.

        Raises Conflict when an invariant of the database refused it (somebody was faster), Unavailable when the
        database did not answer.
        """
        with self._session(reads=False) as session:
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction that only reads: on SQLite it does not queue behind writers."""
        with self._session(reads=True) as session:
            yield session

    @contextlib.contextmanager
    def _session(self, *, reads: bool) -> Iterator[Session]:
        session = self._sessions()
        try:
            with session, session.begin():
                if reads:
                    session.connection(execution_options={"reads": True})
                yield session
            for run_id in session.info.pop("wake", ()):
                self.on_wake(run_id)
        except IntegrityError as error:
            raise Conflict(f"the database refused it: {error.orig}") from error
        except OperationalError as error:
            raise away(error) from error
        except DBAPIError as error:
            raise Conflict(f"the database refused it: {error.orig}") from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one process that drives runs on this database; raises Conflict when another does.

        SQLite needs nothing here: its installation is held by a file lock. On Postgres a session's advisory lock ends
        with its connection. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
        """
        if self.dialect == "sqlite":
            yield
            return
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(DRIVING))):
                raise Conflict("another Signalbox drives the runs of this database", "stop it first")
            yield

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def away(error: OperationalError) -> Unavailable:
    """What it means when the database does not answer."""
    return Unavailable(f"the database did not answer: {error.orig}", "check SIGNALBOX_DATABASE_URL and the disk")


def wake(session: Session, run_id: str) -> None:
    """Ask for this run to be driven, once the transaction of `session` has committed."""
    session.info.setdefault("wake", []).append(run_id)
