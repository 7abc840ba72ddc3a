"""VMs that wait for a task: booted, warm, paused, knowing nothing. Each is used once. Used by the hypervisor.

One thread keeps as many of each make as were lately at work at once: one boot at a time, with a small share of the
processors, and giving way while a task's own VM boots. What waits too long, does not answer or stems from another image
is destroyed, never handed out.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from engine.domain.errors import SignalboxError
from engine.runtime.channel import Channel
from engine.runtime.egress import Egress
from engine.runtime.machine import Machine, Make, Workshop
from engine.runtime.memory import Memory, Room

log = structlog.get_logger()

LOOKED_AGAIN_S = 2.0
GIVES_WAY_S = 10.0  # to tasks whose VMs boot; not for ever, or where tasks never cease none would ever be ready
BOOT_TIMEOUT_S = 180.0
CLOSES = "the pool closes"
AFTER_A_FAILURE_S = (5.0, 300.0)  # first pause, longest


@dataclass(slots=True)
class _Kept:
    """VMs of one make, and how many of it were at work at once."""

    waiting: list[tuple[Machine, Room]] = field(default_factory=list)
    at_work: int = 0
    peaks: deque[tuple[float, int]] = field(default_factory=deque)  # when a task began, how many were at work then


@dataclass(slots=True)
class Pool:
    """Thread-safe. `most`: VMs of one make that wait at once; 0 means no pool. `busy`: whether a task's VM boots now.

    `lately_s`: how far back demand is looked at. `keeps_s`: how long a VM may wait before it is replaced.
    """

    workshop: Workshop
    memory: Memory
    most: int
    busy: Callable[[], bool] = lambda: False
    lately_s: float = 900.0
    keeps_s: float = 1800.0
    _kept: dict[Make, _Kept] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False
    _thread: threading.Thread | None = None
    _failures: int = 0
    _rests_until: float = 0.0
    _busy_since: float = 0.0
    _making: Channel | None = None

    # -- for tasks

    @contextmanager
    def at_work(self, make: Make) -> Iterator[None]:
        """A task of this make is under way: as many VMs will be kept as were under way at once."""
        with self._changed:
            kept = self._kept.setdefault(make, _Kept())
            kept.at_work += 1
            kept.peaks.append((time.monotonic(), kept.at_work))
            self._begin()
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                kept.at_work -= 1

    def take(self, make: Make, task_id: str, run_id: str, egress: Egress) -> tuple[Machine, Room] | None:
        """A VM that is awake, answered just now, and works for this task; None when there is none. Never raises."""
        while (found := self._next(make)) is not None:
            machine, room = found
            try:
                machine.wake()
                machine.work_for(self.workshop.mark(task_id, run_id), egress)
            except SignalboxError as error:
                log.warning("a VM of the pool was not fit; destroyed", why=str(error))
                self._end(machine, room)
                continue
            self.memory.hand_over(room, run_id)
            return machine, room
        return None

    def _next(self, make: Make) -> tuple[Machine, Room] | None:
        with self._changed:
            kept = self._kept.get(make)
            found = kept.waiting.pop(0) if kept is not None and kept.waiting else None
            self._changed.notify_all()
            return found

    def give_up_one(self) -> bool:
        """End one VM that waits, the oldest first, because its memory is needed; False when none waits."""
        with self._changed:
            waiting = [(one, kept) for kept in self._kept.values() for one in kept.waiting]
            if not waiting:
                return False
            oldest, kept = min(waiting, key=lambda pair: pair[0][0].born_at)
            kept.waiting.remove(oldest)
        self._end(*oldest)
        return True

    # -- keeping

    def expect(self, make: Make) -> None:
        """Have one VM of this make ready before any was asked for."""
        with self._changed:
            self._kept.setdefault(make, _Kept()).peaks.append((time.monotonic(), 1))
            self._begin()
            self._changed.notify_all()

    def waiting(self) -> int:
        """How many VMs stand ready."""
        with self._changed:
            return sum(len(kept.waiting) for kept in self._kept.values())

    def close(self) -> None:
        """End every VM that waits, and keep none any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread, making = self._thread, self._making
        if making is not None:
            making.ended(CLOSES)  # one that boots just now need not come up for that
        while self.give_up_one():
            pass
        if thread is not None:
            thread.join(BOOT_TIMEOUT_S)

    def _begin(self) -> None:
        if self.most and not self._closed and self._thread is None:
            self._thread = threading.Thread(target=self._keep, daemon=True, name="vm-pool")
            self._thread.start()

    def _keep(self) -> None:
        while not self._closed:
            for machine, room in self._unfit():
                self._end(machine, room)
            make = self._missing()
            if make is None or not self._add(make):
                with self._changed:
                    if not self._closed:
                        self._changed.wait(LOOKED_AGAIN_S)

    def _unfit(self) -> list[tuple[Machine, Room]]:
        """Take out what must not be handed out any more: too old, of another image, too many, or dead already."""
        out: list[tuple[Machine, Room]] = []
        now = time.monotonic()
        with self._changed:
            for make, kept in list(self._kept.items()):
                current = self._is_current(make)
                good = [
                    one
                    for one in kept.waiting
                    if current and now - one[0].born_at < self.keeps_s and not one[0].channel.is_over
                ][: self._wanted(kept)]
                out += [one for one in kept.waiting if one not in good]
                kept.waiting = good
                if not current and not kept.at_work:
                    del self._kept[make]
        return out

    def _is_current(self, make: Make) -> bool:
        try:
            return self.workshop.is_current(make)
        except SignalboxError:  # the image is gone
            return False

    def _wanted(self, kept: _Kept) -> int:
        """As many as were at work at once lately; one of a make that was ever used."""
        now = time.monotonic()
        while len(kept.peaks) > 1 and kept.peaks[0][0] < now - self.lately_s:
            kept.peaks.popleft()
        lately = max((count for at, count in kept.peaks if at >= now - self.lately_s), default=1)
        return min(self.most, max(1, lately))

    def _missing(self) -> Make | None:
        """The make of which most are missing, when one may be made now."""
        now = time.monotonic()
        self._busy_since = (self._busy_since or now) if self.busy() else 0.0
        if now < self._rests_until or (self._busy_since and now - self._busy_since < GIVES_WAY_S):
            return None
        with self._changed:
            lacks = {make: self._wanted(kept) - len(kept.waiting) for make, kept in self._kept.items()}
        make = max(lacks, key=lambda one: lacks[one], default=None)
        return make if make is not None and lacks[make] > 0 else None

    def _attend(self, channel: Channel) -> None:
        with self._changed:
            self._making = channel
            closed = self._closed
        if closed:
            channel.ended(CLOSES)

    def _add(self, make: Make) -> bool:
        """Make one VM and put it with the others; False when it was not to be."""
        room = self.memory.spare(make.cost_mb)
        if room is None:
            return False
        try:
            machine = self.workshop.for_the_pool(make, BOOT_TIMEOUT_S, self._attend)
        except Exception as error:  # the rim of a thread: without a pool tasks boot their own VM, which is only slower
            self.memory.release(room)
            first, longest = AFTER_A_FAILURE_S
            self._rests_until = time.monotonic() + min(longest, first * 2**self._failures)
            self._failures += 1
            if not self._closed:
                expected = isinstance(error, SignalboxError)
                log.warning("no VM for the pool; trying again later", why=str(error), exc_info=not expected)
            return False
        self._failures = 0
        with self._changed:
            self._making = None
            kept = self._kept.get(make)
            if not self._closed and kept is not None:
                kept.waiting.append((machine, room))
                return True
        self._end(machine, room)
        return False

    def _end(self, machine: Machine, room: Room) -> None:
        if not machine.end():
            log.warning("a VM of the pool is not proved gone; the next sweep finds it", vm=machine.id)
        self.memory.release(room)
