"""A migrated database in memory, whose whole state can be kept and brought back. Called by `engine.simulation`."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.store import migrate
from engine.store.session import Database

PAGE = 1024
""" Bytes. Small: most tables of a simulation have few rows, and each takes at least a page. """
FAST = 1


@contextlib.contextmanager
def memory() -> Iterator[Database]:
    """An empty database at the newest revision, for one thread, that is gone afterwards."""
    image = _migrated()
    database = Database("sqlite://")
    try:
        _connection(database).deserialize(image)
        yield database
    finally:
        database.close()


def kept(database: Database) -> bytes:
    """Everything that it holds now."""
    return zlib.compress(_connection(database).serialize(), FAST)


def bring_back(database: Database, image: bytes) -> None:
    """It holds again what it held then."""
    _connection(database).deserialize(zlib.decompress(image))


def _connection(database: Database) -> Any:
    """The one connection of this thread, on which nothing is under way."""
    return database.engine.raw_connection().driver_connection


def _migrated() -> bytes:
    """The bytes of a migrated file: a migration closes its connections, and with them a database in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        database = Database(f"sqlite:///{path}")
        migrate.upgrade(database)
        database.close()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in ("PRAGMA journal_mode=DELETE", f"PRAGMA page_size={PAGE}", "VACUUM"):
                connection.execute(statement)
            return connection.serialize()
