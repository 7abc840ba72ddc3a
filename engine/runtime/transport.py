"""What stands between a channel and its line to the VM: a queue of frames and one thread that writes them.

Writers never block; a guest that does not read is cut off when too much waits for it. Used by the hypervisor, and by
tests over a socket pair.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

MAX_WAITING = 64 << 20
PIECE = 256 * 1024
PAUSES_S = (0.001, 0.02)  # between tries while the line is full: first, longest


class Line(Protocol):
    """A way to the VM."""

    def send(self, data: bytes) -> int:
        """Bytes taken, 0 when it is full just now; raises OSError when it is gone."""

    def close(self) -> None:
        """Give it up. Never raises."""


class Listener(Protocol):
    """Who hears that the line is gone (a channel)."""

    def ended(self, reason: str) -> None: ...


class Transport:
    """Thread-safe. Frames written before `attach` wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: deque[bytes] = deque()
        self._waiting = 0
        self._closed = False
        self._line: Line | None = None
        self._listener: Listener | None = None

    def attach(self, line: Line, listener: Listener) -> None:
        """Start writing to this line."""
        self._line, self._listener = line, listener
        threading.Thread(target=self._write_all, args=(line, listener), daemon=True, name="vm-writer").start()

    def write(self, data: bytes) -> None:
        """Queue one frame; it vanishes when the line is closed."""
        with self._changed:
            if self._closed:
                return
            self._waiting += len(data)
            self._frames.append(data)
            overrun = self._waiting > MAX_WAITING
            self._changed.notify_all()
        if overrun and self._listener is not None:
            self._listener.ended("the guest does not read what it is sent")

    def close(self) -> None:
        """Stop writing and give the line up. Idempotent."""
        with self._changed:
            first, self._closed = not self._closed, True
            self._frames.clear()
            self._changed.notify_all()
        if first and self._line is not None:
            self._line.close()

    def _write_all(self, line: Line, listener: Listener) -> None:
        try:
            while (data := self._take()) is not None:
                self._write_one(line, data)
        except OSError as error:
            listener.ended(f"the line to the VM is gone: {error}")

    def _take(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed)
            if self._closed:
                return None
            data = self._frames.popleft()
            self._waiting -= len(data)
            return data

    def _write_one(self, line: Line, data: bytes) -> None:
        rest, pause = memoryview(data), PAUSES_S[0]
        while rest and not self._closed:
            taken = line.send(bytes(rest[:PIECE]))
            rest = rest[taken:]
            if taken == 0:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, pause)
                pause = min(pause * 2, PAUSES_S[1])
