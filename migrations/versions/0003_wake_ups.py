"""Procrastinate's own tables, on Postgres: wake-ups are jobs in the transaction of the change that they speak of.

The schema is the installed library's (pyproject.toml holds it to one minor version). Raising that version takes a
migration that runs the library's own, from `procrastinate/sql/migrations`.

Revision: 0003, after 0002.
"""

from typing import Any

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return
    from procrastinate.schema import SchemaManager  # noqa: PLC0415 - an extra that SQLite does without

    raw: Any = bind.connection.driver_connection
    raw.execute(SchemaManager.get_schema())  # many statements: no parameters, so psycopg sends them as they are
