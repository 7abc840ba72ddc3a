"""The line of revisions itself, and what each column of states really takes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from engine.store import migrate
from engine.store.models import Base
from engine.store.session import Database

STATES = tuple(
    (table.name, column.name)
    for table in Base.metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, sa.Enum)
)


def test_the_revisions_are_one_line_with_one_head_and_no_file_beside_it() -> None:
    scripts = ScriptDirectory(str(migrate.SCRIPTS))
    line = [script.revision for script in scripts.walk_revisions()]

    assert scripts.get_heads() == [migrate.newest()]
    assert scripts.get_bases() == ["0001"]
    assert line == sorted(line, reverse=True)
    files = sorted(path.name.partition("_")[0] for path in (migrate.SCRIPTS / "versions").glob("*.py"))
    assert files == line[::-1]


def everything(database: Database) -> list[tuple[Any, ...]]:
    """Names and definitions of all that a migration makes, and the rows that it writes."""
    asked = {
        "sqlite": ("SELECT name, sql FROM sqlite_master", "SELECT * FROM move", "SELECT * FROM alembic_version"),
        "postgresql": (
            "SELECT relname, oid, relfilenode FROM pg_class WHERE relnamespace = 'public'::regnamespace",
            "SELECT tgname, oid, tgenabled::text FROM pg_trigger",
            "SELECT proname, oid, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
            "SELECT conname, oid, pg_get_constraintdef(oid) FROM pg_constraint",
            "SELECT * FROM move",
            "SELECT * FROM alembic_version",
        ),
    }
    with database.engine.connect() as connection:
        return sorted(
            (number, *map(str, row))
            for number, query in enumerate(asked[database.dialect])
            for row in connection.execute(sa.text(query))
        )


def test_migrating_twice_changes_nothing(url: str) -> None:
    database = Database(url)
    migrate.upgrade(database)
    before = everything(database)
    migrate.upgrade(database)

    assert len(before) > 100
    assert everything(database) == before
    database.close()


# -- states


def copy_of(connection: sa.Connection, table: sa.Table) -> None:
    """A table `copy` with the CHECKs of the migrated one, and nothing else that could refuse a row."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE copy (LIKE {table.name} INCLUDING CONSTRAINTS)")
        return
    sql = connection.scalar(sa.text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table.name})
    _, _, body = str(sql).partition("(")
    connection.exec_driver_sql(f"CREATE TEMPORARY TABLE copy ({body}")


def row(table: sa.Table, number: int) -> dict[str, Any]:
    """A value in every column, all different from those of another number where they are text."""
    values = {column.name: _some(column.type, number) for column in table.columns}
    return {**values, "state": "pending"} if table.name == "outbox" else values


def _some(kind: Any, number: int) -> Any:
    match kind:
        case sa.JSON():
            return {}
        case sa.Enum():
            return kind.enums[0]
        case sa.TypeDecorator():
            return _some(kind.impl_instance, number)
    values = {str: f"row {number}", bytes: b"", datetime: datetime(2026, 1, 1, tzinfo=UTC), bool: False, int: number}
    return values[kind.python_type]


def refused(database: Database, table_name: str, column: str, values: list[str]) -> list[str]:
    """Those of the values that the migrated table's CHECKs do not take in this column."""
    table, numbers = Base.metadata.tables[table_name], itertools.count(1)
    text = {c.name: sa.Text() for c in table.columns if isinstance(c.type, sa.Enum)}
    copy = sa.table("copy", *(sa.column(c.name, text.get(c.name, c.type)) for c in table.columns))
    found = []
    engine = sa.create_engine(database.engine.url)  # one that holds SQLite to no foreign key
    with engine.connect() as connection:
        copy_of(connection, table)
        for value in values:
            try:
                with connection.begin_nested():
                    connection.execute(sa.insert(copy).values({**row(table, next(numbers)), column: value}))
            except sa.exc.IntegrityError:
                found.append(value)
        connection.rollback()
    engine.dispose()
    return found


def test_every_state_can_really_be_stored_and_nothing_else(url: str) -> None:
    """`alembic check` does not see a new member of an enum: it would be refused at the first incident that needs it."""
    database = Database(url)
    migrate.upgrade(database)

    assert len(STATES) > 8
    for table, column in STATES:
        kind = Base.metadata.tables[table].columns[column].type
        assert isinstance(kind, sa.Enum)
        assert kind.enum_class is not None
        members = [member.value for member in kind.enum_class]
        assert refused(database, table, column, [*members, "a new one"]) == ["a new one"], f"{table}.{column}"
    database.close()
