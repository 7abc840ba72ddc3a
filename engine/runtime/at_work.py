"""The tasks that this process runs now, and those that it will not run any more. Used by the hypervisor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.domain.errors import Refused
from engine.runtime.channel import Channel

MAX_BARRED = 10_000


@dataclass(slots=True)
class Running:
    """One task. It has no channel while it waits for memory, or for its VM."""

    thread: int
    channel: Channel | None = None
    cancelled: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class AtWork:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}
        self._barred: dict[str, None] = {}  # ids that were cancelled, oldest first

    @contextmanager
    def on(self, task_id: str) -> Iterator[Running]:
        """While this lasts the task runs. Raises Refused for one that does already, or was cancelled before."""
        running = Running(threading.get_ident())
        with self._lock:
            if task_id in self._running:
                raise Refused(f"task {task_id} runs already", "every attempt has an id of its own")
            if task_id in self._barred:
                raise Refused(f"task {task_id} was cancelled before it began", "every attempt has an id of its own")
            self._running[task_id] = running
        try:
            yield running
        finally:
            with self._lock:
                del self._running[task_id]
            running.done.set()

    def reach(self, running: Running, channel: Channel) -> None:
        """From here on a cancel reaches the VM; one that came before does so now."""
        with self._lock:
            running.channel = channel
        if running.cancelled:
            channel.ended("cancelled")

    def cancel(self, task_id: str) -> Running | None:
        """End what runs of a task, and let it never begin again; the task, if it runs."""
        with self._lock:
            running = self._running.get(task_id)
            self._barred[task_id] = None
            while len(self._barred) > MAX_BARRED:
                del self._barred[next(iter(self._barred))]
            if running is None:
                return None
            running.cancelled = True
            channel = running.channel
        if channel is not None:
            channel.ended("cancelled")
        return running

    def ids(self) -> list[str]:
        """Of the tasks that run."""
        with self._lock:
            return list(self._running)

    def boots(self) -> bool:
        """Whether a task waits for its VM now."""
        with self._lock:
            return any(running.channel is None or not running.channel.greeted for running in self._running.values())
