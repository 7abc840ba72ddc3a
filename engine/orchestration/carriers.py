"""Wake-ups within one process: threads that take the most urgent run first. For many: `engine.orchestration.fleet`."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from engine.store.session import Database
from engine.store.wakeups import WakeUp


class Carrier(Protocol):
    """Brings wake-ups to `drive`, a run's id at a time. Losing or doubling one is harmless."""

    def start(self) -> None: ...

    def stop(self, timeout_s: float) -> None:
        """Take no more; return when what was taken has come to its next boundary, or after `timeout_s`."""


@dataclass(slots=True)
class Local:
    """SQLite: the transaction's own process is the one that drives."""

    database: Database
    concurrency: int
    drive: Callable[[str], None]
    _waiting: list[tuple[int, int, str]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _ready: threading.Condition = field(default_factory=threading.Condition)
    _stopped: bool = False
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin to take wake-ups."""
        self.database.on_wake = self._take
        for number in range(self.concurrency):
            thread = threading.Thread(target=self._work, name=f"run-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout_s: float) -> None:
        """See `Carrier.stop`."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _take(self, wake_up: WakeUp) -> None:
        with self._ready:
            heapq.heappush(self._waiting, (-wake_up.priority, next(self._numbers), wake_up.run_id))
            self._ready.notify()

    def _work(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._stopped or bool(self._waiting))
                if self._stopped:
                    return
                run_id = heapq.heappop(self._waiting)[2]
            self.drive(run_id)
