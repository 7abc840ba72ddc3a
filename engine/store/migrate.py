"""Bringing a database to the newest revision, and saying whether it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError, ProgrammingError

from engine.domain.errors import BadInput
from engine.domain.states import MOVES
from engine.store.models import Move
from engine.store.session import Database, away

SCRIPTS = Path(__file__).parents[2] / "migrations"
NOT_PERMITTED = "42501"
""" https://www.postgresql.org/docs/current/errcodes-appendix.html: insufficient_privilege """


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config


def newest() -> str:
    """The revision that this release wants."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(database: Database) -> str:
    """The revision that the database has; empty when it has none. Raises Unavailable, BadInput (not ours to read)."""
    with _answering(), database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def bring_up_to_date(database: Database) -> None:
    """Before a start. SQLite is this process's own, so it is migrated here and now.

    Raises BadInput for a Postgres at another revision: who owns its tables migrates it, before a new release starts.
    """
    if not database.is_shared:
        upgrade(database)
        return
    must_be_newest(database)


def must_be_newest(database: Database) -> None:
    """Raises BadInput when the database is at another revision than this release wants."""
    have, want = current(database), newest()
    if have != want:
        who = "as the owner of its tables: " if database.is_shared else ""
        raise BadInput(
            f"the database is at revision {have or 'none'}, this release wants {want}", f"{who}signalbox migrate"
        )


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate, and bring the table of moves to this release's. Repeatable. Raises Unavailable, BadInput (not ours)."""
    config = _config()
    with _answering(), _foreign_keys_off(database), database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if revision == "head":
            _write_moves(connection)
        if not database.is_shared:
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise BadInput(f"rows that refer to nothing: {broken[:3]}", "restore the database from before")


@contextlib.contextmanager
def _foreign_keys_off(database: Database) -> Iterator[None]:
    """SQLite makes a table anew to change it: others must not lose their rows meanwhile.
    https://www.sqlite.org/lang_altertable.html#otheralter (steps 1, 11, 12)"""
    if database.is_shared:
        yield
        return
    database.engine.dispose()  # each connection says how it is opened

    def off(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA foreign_keys=OFF")

    sa.event.listen(database.engine, "connect", off)
    try:
        yield
    finally:
        sa.event.remove(database.engine, "connect", off)
        database.engine.dispose()


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise away(error) from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != NOT_PERMITTED:
            raise
        raise BadInput(
            f"the database refuses this role: {error.orig}",
            "migrate as the owner of its tables, then as the owner: signalbox database grants | psql",
        ) from None


def _write_moves(connection: sa.Connection) -> None:
    """Add moves that are new. Old ones stay: old events point at them."""
    known = {(row.source, row.event, row.target) for row in connection.execute(sa.select(Move.__table__))}
    missing = [
        {"source": m.source.value, "event": m.event.value, "target": m.target.value, "because": m.because}
        for m in MOVES
        if (m.source.value, m.event.value, m.target.value) not in known
    ]
    if missing:
        connection.execute(sa.insert(Move), missing)
