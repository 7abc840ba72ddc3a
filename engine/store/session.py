"""Opening a database and one transaction at a time, on SQLite and on Postgres alike.

What a transaction collects (events, things to tell, wake-ups) is written together at its end. Wake-ups are rows of the
same transaction on Postgres, and calls after the commit on SQLite: nobody runs ahead of rows that are not there.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from engine.domain.errors import BadInput, Conflict, Unavailable
from engine.store import chain, outbox, runs, wakeups
from engine.store.wakeups import WakeUp

__all__ = ["Database", "Session", "open_engine"]

BUSY_TIMEOUT_MS = 30_000
POOL = 16
IDLE_SINCE, TRUSTED_S = "idle since", 1.0
""" Connections kept, and as many again when it is busy: the bot's threads and the runs of a worker. """
SILENT_CLIENT = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
""" A server that the network no longer reaches must not be waited for without end.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS """


def open_engine(url: str, patience_s: float = 10) -> sa.Engine:
    """An engine with the same promises on both dialects.

    SQLite: WAL, `synchronous=FULL` ("started" must survive a power cut), foreign keys on, and BEGIN IMMEDIATE, for a
    transaction that reads first and writes later fails with "database is locked" otherwise.
    Postgres: a session that falls silent in a transaction is ended after `patience_s`, since others wait for its rows.
    Raises BadInput for what is no URL of a database that we can speak to.
    """
    if not url.startswith("sqlite"):
        try:
            return _open_postgres(url, patience_s)
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


def _open_postgres(url: str, patience_s: float) -> sa.Engine:
    milliseconds = int(patience_s * 1000)
    options = f"-c idle_in_transaction_session_timeout={milliseconds} -c lock_timeout={milliseconds}"
    arguments = {**SILENT_CLIENT, "tcp_user_timeout": milliseconds, "options": options}
    engine = sa.create_engine(url, pool_size=POOL, max_overflow=POOL, connect_args=arguments)
    _ask_after_idleness(engine)
    return engine


def _ask_after_idleness(engine: sa.Engine) -> None:
    """A connection that lay idle is asked whether it lives before it is given out; one just used is not.

    Asking each time (`pool_pre_ping`) costs a round trip a transaction. What this misses (the server went away within
    the last second) is an error of that transaction, as if it had gone away a moment later: Unavailable.
    """

    @sa.event.listens_for(engine, "checkin")
    def _given_back(_connection: object, record: Any) -> None:
        record.info[IDLE_SINCE] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def _given_out(connection: Any, record: Any, _proxy: object) -> None:
        if time.monotonic() - record.info.get(IDLE_SINCE, math.inf) < TRUSTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError(f"it does not answer: {error}") from error


class Database:
    """One database. On SQLite `on_wake` is called with each wake-up after the commit of what made the run runnable."""

    def __init__(self, url: str, *, patience_s: float = 10) -> None:
        """`patience_s`: how long Postgres waits for a client that went silent in a transaction."""
        self.engine = open_engine(url, patience_s)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._as_reader: Mapping[str, Any] = (
            {"isolation_level": "AUTOCOMMIT"} if self.dialect == "postgresql" else {"reads": True}
        )
        self._send = _job_sender() if self.dialect == "postgresql" else None
        self.on_wake: Callable[[WakeUp], None] = lambda _wake_up: None

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @property
    def is_shared(self) -> bool:
        """Whether several processes may drive runs on it."""
        return self._send is not None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: commits when the block ends, rolls back when it raises.

        Raises Conflict when an invariant of the database refused it (somebody was faster), Unavailable when the
        database did not answer.
        """
        with self._session(None) as session:
            yield session

    @contextlib.contextmanager
    def reading(self, *, one_moment: bool = False) -> Iterator[Session]:
        """One session that only reads. On SQLite it does not queue behind writers; on Postgres each statement is a
        transaction of its own, which is what it sees anyway (read committed), without the round trips around it.

        `one_moment`: all of its statements see the database as the first one saw it (SQLite does so anyway).
        """
        as_reader = {"isolation_level": "REPEATABLE READ"} if one_moment and self.is_shared else self._as_reader
        with self._session(as_reader) as session:
            yield session

    @contextlib.contextmanager
    def _session(self, as_reader: Mapping[str, Any] | None) -> Iterator[Session]:
        wake_ups: Collection[WakeUp] = ()
        with _in_our_words(), self._sessions() as session, session.begin():
            if as_reader is not None:
                session.connection(execution_options=as_reader)
            yield session
            session.flush()
            wake_ups = wakeups.taken(session)
            if wake_ups and self._send is not None:
                self._send(session, wake_ups)
            with self._answered_together(session):
                runs.write(session)
                chain.write(session)
                outbox.write(session)
        if self._send is None:
            for wake_up in wake_ups:
                self.on_wake(wake_up)

    @contextlib.contextmanager
    def _answered_together(self, session: Session) -> Iterator[None]:
        """Postgres answers what is sent within at the end of the block: no row or count of it is seen before.

        An insert must therefore be `inline`, or SQLAlchemy asks for the row's id.
        https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
        """
        if not self.is_shared or not any(session.info.get(kind) for kind in (runs.ADDED, chain.EVENTS, outbox.OUTBOX)):
            yield
            return
        driver: Any = session.connection().connection.driver_connection
        dialect = self.engine.dialect
        try:
            with driver.pipeline():
                yield
        except dialect.loaded_dbapi.Error as error:  # an answer at the end does not pass SQLAlchemy, which wraps it
            raise DBAPIError.instance("several", None, error, dialect.loaded_dbapi.Error, dialect=dialect) from error

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


@contextlib.contextmanager
def _in_our_words() -> Iterator[None]:
    """What a database says, as one of our errors."""
    try:
        yield
    except StaleDataError as error:
        raise Conflict("a run moved on meanwhile") from error
    except IntegrityError as error:
        raise Conflict(f"the database refused it: {error.orig}") from error
    except OperationalError as error:
        raise away(error) from error
    except sa.exc.TimeoutError as error:  # SQLAlchemy's own: every connection of the pool was busy for too long
        raise Unavailable("the database has no connection to spare", "fewer runs at once, or more workers") from error
    except DBAPIError as error:
        raise Conflict(f"the database refused it: {error.orig}") from error


def _job_sender() -> Callable[[Session, Collection[WakeUp]], None]:
    """Procrastinate comes with the extra `postgres`: who has SQLite only does not need it."""
    sender: Callable[[Session, Collection[WakeUp]], None] = importlib.import_module("engine.store.jobs").send
    return sender


def away(error: OperationalError) -> Unavailable:
    """What it means when the database does not answer."""
    return Unavailable(f"the database did not answer: {error.orig}", "check SIGNALBOX_DATABASE_URL and the disk")
