"""Memory for VMs: a budget that is never exceeded, and a fair queue in front of it. Used by hypervisor and pool.

Who asks for a task may wait; VMs that wait in the pool only get what nobody asks for, and are given up first. The run
that uses least goes first, so a run with many VMs does not starve the others; nobody overtakes the first in the queue.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.domain.errors import Unavailable

MEMINFO = Path("/proc/meminfo")
SHARE = 0.6
""" Of what is available when we start: the budget, where none is set. """
KEPT_FREE_MB = 256
""" The machine itself keeps this, whatever the budget says: a VM's memory must never be swapped. """
LOOKED_AGAIN_S = 1.0


def available_mb() -> int:
    """What the kernel could give to new programs without swapping."""
    for line in MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise Unavailable(f"{MEMINFO} does not tell MemAvailable", "set SIGNALBOX_VM_MEMORY_MB")


@dataclass(slots=True, eq=False)
class Room:
    """Memory that one VM may use. `run`: for whom; empty while it waits in the pool."""

    mb: int
    run: str


@dataclass(slots=True, eq=False)
class _Waiting:
    mb: int
    run: str
    urgent: bool
    number: int


@dataclass(slots=True)
class Memory:
    """Thread-safe. `budget_mb`: for all VMs of this process; 0 means a share of what is available now.

    `give_up`: ends one VM that waits in the pool, and frees its room; False when there is none.
    """

    budget_mb: int = 0
    available: Callable[[], int] = available_mb
    give_up: Callable[[], bool] = lambda: False
    _rooms: set[Room] = field(default_factory=set)
    _queue: list[_Waiting] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.budget_mb = self.budget_mb or int(self.available() * SHARE)

    def room(
        self, run: str, mb: int, *, urgent: bool = False, stopped: Callable[[], bool] = lambda: False, within_s: float
    ) -> Room:
        """Memory for a task, waited for up to `within_s`; `urgent` goes first. `release` is due afterwards.

        Raises Unavailable: there will never be so much, there was none in time, or `stopped` (ask `poke` to look).
        """
        if mb > self.budget_mb:
            raise Unavailable(
                f"a VM needs {mb} MB, and all VMs together may use {self.budget_mb} MB",
                "raise SIGNALBOX_VM_MEMORY_MB, or give the step less memory",
            )
        with self._changed:
            waiting = _Waiting(mb, run, urgent, next(self._numbers))
            self._queue.append(waiting)
        try:
            return self._wait(waiting, time.monotonic() + within_s, stopped)
        finally:
            with self._changed:
                self._queue.remove(waiting)
                self._changed.notify_all()

    def _wait(self, waiting: _Waiting, deadline: float, stopped: Callable[[], bool]) -> Room:
        while True:
            with self._changed:
                first = self._first() is waiting
                if first and self._fits(waiting.mb):
                    return self._take(waiting.mb, waiting.run)
                in_pool = any(not room.run for room in self._rooms)
            if first and in_pool and self.give_up():
                continue
            with self._changed:
                if stopped():
                    raise Unavailable("it was cancelled while it waited for memory")
                if time.monotonic() >= deadline:
                    raise Unavailable(self._why(waiting.mb), "wait until other steps have ended, or add memory")
                self._changed.wait(min(LOOKED_AGAIN_S, max(0.0, deadline - time.monotonic())))

    def spare(self, mb: int) -> Room | None:
        """Memory for a VM of the pool; None when there is none to spare, or somebody waits."""
        with self._changed:
            return None if self._queue or not self._fits(mb) else self._take(mb, "")

    def hand_over(self, room: Room, run: str) -> None:
        """A VM of the pool works for this run now."""
        with self._changed:
            room.run = run

    def release(self, room: Room) -> None:
        """Its VM is gone. Idempotent."""
        with self._changed:
            self._rooms.discard(room)
            self._changed.notify_all()

    def poke(self) -> None:
        """Have everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def shortage(self, mb: int) -> str:
        """Why a task would have to wait now, for a person; empty when it would not."""
        with self._changed:
            pooled = sum(room.mb for room in self._rooms if not room.run)
            return "" if not self._queue and self._fits(mb - pooled) else self._why(mb)

    def describe(self) -> str:
        """One line for a person."""
        with self._changed:
            return f"{self._used()} of {self.budget_mb} MB used by {len(self._rooms)} VMs, {len(self._queue)} wait"

    def _take(self, mb: int, run: str) -> Room:
        room = Room(mb, run)
        self._rooms.add(room)
        return room

    def _first(self) -> _Waiting:
        return min(self._queue, key=lambda one: (not one.urgent, self._used(one.run), one.number))

    def _used(self, run: str | None = None) -> int:
        return sum(room.mb for room in self._rooms if run is None or room.run == run)

    def _fits(self, mb: int) -> bool:
        return self._used() + mb <= self.budget_mb and mb + KEPT_FREE_MB <= self.available()

    def _why(self, mb: int) -> str:
        return (
            f"memory for a VM: {mb} MB needed, {self._used()} of {self.budget_mb} MB used by {len(self._rooms)} VMs, "
            f"{self.available()} MB available on this machine, {len(self._queue)} waiting"
        )
