"""Counting what goes to a database through an engine of SQLAlchemy's, by transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

NOT_COUNTED = ("BEGIN", "PRAGMA")
WRITES = ("INSERT", "UPDATE", "DELETE")
PLAIN = "between two steps"
KINDS = {
    "INSERT INTO target_lock": "the first: takes the run up, its targets, reads its past",
    "DELETE FROM target_lock": "the last: gives the targets back, closes the incident",
    "INSERT INTO artefact": "keeps an artefact, and a change begins",
    "FROM alert": "a change begins: does its source still fire?",
}
""" What a boundary does besides ending a step and starting one, by what it says to the database; the first counts. """


@dataclass(slots=True)
class Transaction:
    """What one committed transaction sent. `rows`: an executemany of five rows is one statement and five rows."""

    statements: list[str] = field(default_factory=list)
    rows: int = 0

    @property
    def wrote(self) -> bool:
        """Whether its commit had something to make durable."""
        return any(statement.startswith(WRITES) for statement in self.statements)

    @property
    def is_boundary(self) -> bool:
        """Whether a run moved in it."""
        return any(statement.startswith("UPDATE run SET") for statement in self.statements)

    @property
    def kind(self) -> str:
        """What sort of boundary it is."""
        found = (kind for mark, kind in KINDS.items() if any(mark in statement for statement in self.statements))
        return next(found, PLAIN)


@dataclass(slots=True)
class Counter:
    """Counts for every connection of these engines, until it is closed."""

    engines: tuple[sa.Engine, ...]
    committed: list[Transaction] = field(default_factory=list)
    _open: dict[int, Transaction] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Counter:
        for engine in self.engines:
            for name, listener in self._listeners():
                sa.event.listen(engine, name, listener)
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self.engines:
            for name, listener in self._listeners():
                sa.event.remove(engine, name, listener)

    def _listeners(self) -> Iterator[tuple[str, Any]]:
        yield "before_cursor_execute", self._statement
        yield "commit", self._commit
        yield "rollback", self._rollback

    def _statement(
        self, connection: sa.Connection, _cursor: object, statement: str, values: Any, context: Any, many: bool
    ) -> None:
        if statement.startswith(NOT_COUNTED):
            return
        with self._lock:
            found = self._open.setdefault(id(connection), Transaction())
            found.statements.append(statement)
            if statement.startswith(WRITES):
                found.rows += len(values) if many else len(getattr(context, "compiled_parameters", None) or [None])

    def _commit(self, connection: sa.Connection) -> None:
        with self._lock:
            found = self._open.pop(id(connection), None)
            if found is not None:
                self.committed.append(found)

    def _rollback(self, connection: sa.Connection) -> None:
        with self._lock:
            self._open.pop(id(connection), None)

    @property
    def statements(self) -> int:
        """Sent in committed transactions."""
        return sum(len(each.statements) for each in self.committed)

    @property
    def rows(self) -> int:
        """Rows written in committed transactions."""
        return sum(each.rows for each in self.committed)

    @property
    def write_commits(self) -> int:
        """Commits of transactions that wrote."""
        return sum(each.wrote for each in self.committed)

    @property
    def boundaries(self) -> list[Transaction]:
        """The transactions in which a run moved."""
        return [each for each in self.committed if each.is_boundary]
