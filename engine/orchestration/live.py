"""The live log: what an attempt prints, in the database while it runs, for whoever looks at its page.

Worker and web server may be on different machines, so it goes by a row: its last characters, written at most once a
second and only when something new came. What it is given is redacted; it is redacted once more as a whole, since two
streams that are harmless each could meet in it. A database that is away costs the log, never the attempt.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from engine.domain.errors import SignalboxError
from engine.domain.ports import Clock, Redactor
from engine.store import logs
from engine.store.session import Database

log = structlog.get_logger()

KEPT_CHARACTERS = 64_000
EVERY_S = 1.0
LAST_WRITE_S = 5.0


class Tail:
    """The end of an output, on its way to `write`. `hear` never blocks and never raises."""

    def __init__(self, write: Callable[[str], None], redactor: Redactor, every_s: float = EVERY_S) -> None:
        self._write, self._redactor, self._every_s = write, redactor, every_s
        self._changed = threading.Condition()
        self._parts: deque[str] = deque()
        self._length = 0
        self._news = self._closed = False
        self._thread: threading.Thread | None = None

    def hear(self, text: str) -> None:
        """The next piece."""
        with self._changed:
            if self._closed or not text:
                return
            self._parts.append(text[-KEPT_CHARACTERS:])
            self._length += len(self._parts[-1])
            while self._length - len(self._parts[0]) >= KEPT_CHARACTERS:
                self._length -= len(self._parts.popleft())
            self._news = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, daemon=True, name="live-log")
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Write what is new, and be done: within a moment, whatever the database does."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(LAST_WRITE_S)

    def _write_all(self) -> None:
        while (text := self._next()) is not None:
            self._write(self._redactor(text)[-KEPT_CHARACTERS:])
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._every_s)

    def _next(self) -> str | None:
        """What is to be written; None when nothing more comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._closed)
            if not self._news:
                return None
            self._news = False
            return "".join(self._parts)


@dataclass(frozen=True, slots=True)
class LiveLog:
    """Logs of attempts, on a database."""

    database: Database
    clock: Clock

    @contextmanager
    def of(self, attempt_id: str, redactor: Redactor) -> Iterator[Callable[[str], None]]:
        """What to call with each redacted piece of output, while this lasts. The rest is written when it ends."""
        tail = Tail(lambda text: self._keep(attempt_id, text), redactor)
        try:
            yield tail.hear
        finally:
            tail.close()

    def _keep(self, attempt_id: str, text: str) -> None:
        try:
            with self.database.transaction() as session:
                logs.keep(session, attempt_id, text, self.clock.now())
        except SignalboxError as error:
            log.warning("the live log could not be written", attempt=attempt_id, why=str(error))
