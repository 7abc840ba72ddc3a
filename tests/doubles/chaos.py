"""Trouble between any two statements: the process dies, its connection is cut, it is paused, or somebody is as fast.

Every statement and every commit of a process is a point, and so is whatever its adapters do. A fault strikes at the
n-th point that its process comes to: before a statement, before a commit, or after a commit whose answer is then lost.
"""

from __future__ import annotations

import contextlib
import enum
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing after it runs."""


class Kind(enum.StrEnum):
    """What strikes."""

    KILL = "kill"
    """ The process is gone. """

    CUT = "cut"
    """ The connection to the database is lost; the process lives. """

    PAUSE = "pause"
    """ The process stands still until its claims have ended; others act meanwhile; then it goes on. """

    RACE = "race"
    """ Others act at this very moment, in a thread of their own, while what is locked stays locked. """


class At(enum.StrEnum):
    """What a process is about to do at a point."""

    STATEMENT = "statement"
    COMMIT = "commit"
    ANSWER = "answer"
    """ The commit is done, and its process does not know yet. """
    VM = "vm"
    """ One works: it is not there yet, it has not done anything yet, it has. """
    LIBVIRT = "libvirt"
    GATE = "gate"
    SECRET = "secret"


ON_THE_DATABASE = frozenset({At.STATEMENT, At.COMMIT, At.ANSWER})


@dataclass(frozen=True, slots=True)
class Fault:
    """`after` so many points (of the kind `at`, or of any) `kind` strikes; `then`: what others do meanwhile."""

    kind: Kind
    after: int
    at: At | None = None
    then: tuple[str, ...] = ()


@dataclass(slots=True)
class Chaos:
    """The points of whatever the armed thread does. `meanwhile` does what a fault's `then` names."""

    meanwhile: Callable[[Fault], None] = lambda _fault: None
    struck: At | None = None
    """ Where a fault struck since it was armed. """
    _fault: Fault | None = None
    _left: int = 0
    _thread: int = 0
    _others: list[threading.Thread] = field(default_factory=list)
    _broke: list[Exception] = field(default_factory=list)

    @contextlib.contextmanager
    def armed(self, fault: Fault | None) -> Iterator[None]:
        """The fault may strike this thread, once, within the block."""
        self._fault, self._thread, self.struck = fault, threading.get_ident(), None
        self._left = fault.after if fault else 0
        try:
            yield
        finally:
            self._fault = None
            for thread in self._others:
                thread.join(60)
                if thread.is_alive():
                    raise AssertionError("whoever raced with us hangs")
            self._others.clear()
            broke, self._broke = self._broke, []
            if broke:
                raise broke[0]

    def point(self, at: At) -> None:
        """The process comes to a point outside the database. Raises Killed if that was its end."""
        fault = self._strikes(at)
        match fault.kind if fault else None:
            case Kind.KILL:
                raise Killed
            case Kind.PAUSE if fault:
                self.meanwhile(fault)
            case Kind.RACE if fault:
                self._race(fault)

    def _strikes(self, at: At) -> Fault | None:
        fault = self._fault
        if fault is None or threading.get_ident() != self._thread or fault.at not in {None, at}:
            return None
        if self._left > 0:
            self._left -= 1
            return None
        if fault.kind is Kind.CUT and at not in ON_THE_DATABASE:
            self._fault = replace(fault, at=None)  # it strikes at the next statement
            return None
        self._fault, self.struck = None, at
        return fault

    def _race(self, fault: Fault) -> None:
        def others_act() -> None:
            try:
                self.meanwhile(fault)
            except Exception as error:  # noqa: BLE001 - the rim of a thread: told to the one who waits for it
                self._broke.append(error)

        other = threading.Thread(target=others_act, daemon=True)
        other.start()
        other.join(0.05)  # longer when it waits for what we hold: then both go on at once
        self._others.append(other)

    # -- on the database

    def watch(self, engine: sa.Engine) -> None:
        """Whatever is said to this database is a point."""
        dialect = engine.dialect
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            setattr(dialect, name, self._statement(getattr(dialect, name)))
        setattr(dialect, "do_commit", self._commit(dialect.do_commit))  # noqa: B010 - a method, which mypy guards

    def _statement(self, execute: Callable[..., None]) -> Callable[..., None]:
        def wrapped(cursor: Any, *args: Any, **kwargs: Any) -> None:
            self._before(cursor.connection, At.STATEMENT)
            execute(cursor, *args, **kwargs)

        return wrapped

    def _commit(self, commit: Callable[[Any], None]) -> Callable[[Any], None]:
        def wrapped(connection: Any) -> None:
            self._before(connection.driver_connection, At.COMMIT)
            commit(connection)
            fault = self._strikes(At.ANSWER)
            match fault.kind if fault else None:
                case Kind.KILL:
                    raise Killed
                case Kind.CUT:
                    _cut(connection.driver_connection)
                    commit(connection)  # raises: the answer of the commit is lost
                case Kind.PAUSE if fault:
                    self.meanwhile(fault)
                case Kind.RACE if fault:
                    self._race(fault)

        return wrapped

    def _before(self, connection: Any, at: At) -> None:
        fault = self._strikes(at)
        match fault.kind if fault else None:
            case Kind.KILL:
                raise Killed
            case Kind.CUT:
                _cut(connection)
            case Kind.PAUSE if fault:
                _cut(connection)  # the server ends a session that falls silent in a transaction
                self.meanwhile(fault)
            case Kind.RACE if fault:
                self._race(fault)


def _cut(connection: Any) -> None:
    """What is said on this connection from now on fails as it does when the other end is gone."""
    if isinstance(connection, sqlite3.Connection):
        raise sqlite3.OperationalError("disk I/O error")
    connection.close()
