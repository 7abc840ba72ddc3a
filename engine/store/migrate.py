"""Bringing a database to the newest revision, and saying whether it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from engine.domain.states import MOVES
from engine.store.models import Move
from engine.store.session import Database, away

SCRIPTS = Path(__file__).parents[2] / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config


def newest() -> str:
    """The revision that this release wants."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(database: Database) -> str:
    """The revision that the database has; empty when it has none. Raises Unavailable."""
    with _answering(), database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate, and bring the table of moves to this release's. Repeatable. Raises Unavailable."""
    config = _config()
    with _answering(), database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if revision == "head":
            _write_moves(connection)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise away(error) from error


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
