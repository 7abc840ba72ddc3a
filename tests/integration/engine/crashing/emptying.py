"""One migrated database for all examples: emptied between two of them, since a new one each would cost too much.

History is append-only by trigger, so only whoever owns the database can do this, and only tests do.
"""

from __future__ import annotations

import sqlalchemy as sa

from engine.store.models import Base

KEPT = frozenset({"move"})
TABLES = tuple(table.name for table in reversed(Base.metadata.sorted_tables) if table.name not in KEPT)


def empty(engine: sa.Engine) -> None:
    """As after the migration."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            _empty_postgres(connection)
        else:
            _empty_sqlite(connection)


def _empty_sqlite(connection: sa.Connection) -> None:
    triggers = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all()
    connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    for name, _ in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    for table in TABLES:
        connection.exec_driver_sql(f'DELETE FROM "{table}"')  # noqa: S608 - our own tables
    for _, statement in triggers:
        connection.exec_driver_sql(statement)


def _empty_postgres(connection: sa.Connection) -> None:
    tables = [*TABLES, "procrastinate_events", "procrastinate_jobs"]
    deletes = "; ".join(f'DELETE FROM "{table}"' for table in tables)  # noqa: S608 - as above
    numbers = connection.exec_driver_sql("SELECT quote_ident(sequencename) FROM pg_sequences").scalars()
    restarts = "; ".join(f"ALTER SEQUENCE {number} RESTART" for number in numbers)
    # replicas fire no triggers: neither those that keep history, nor those of foreign keys
    connection.exec_driver_sql(f"SET LOCAL session_replication_role = replica; {deletes}; {restarts}")
