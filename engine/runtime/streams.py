"""One numbered stream of a VM's channel, host side: frames that wait to be read, and credit for what we send.

The reader thread (libvirt's) puts frames in and never blocks; the stream's owner takes them out. A guest that ignores
its window breaks the protocol, so a stream never holds more than WINDOW bytes of data. Used by channel and tunnels.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Callable

from engine.runtime.frames import WINDOW, BrokenProtocol, Frame, Kind

CHUNK = 32 * 1024
MAX_UNCOUNTED, MAX_UNCOUNTED_BYTES = 4096, 4 << 20
COUNTED = frozenset({Kind.DATA, Kind.STDOUT, Kind.STDERR})


class ChannelEnded(Exception):
    """The VM, its agent or libvirt is gone, or the task was cancelled; str() says which."""


class Stream:
    """Thread-safe. `send` puts one frame on the wire without blocking. `kinds`: what is heard, if not all."""

    def __init__(
        self, number: int, send: Callable[[Kind, int, bytes], None], kinds: frozenset[Kind] | None = None
    ) -> None:
        self.number = number
        self._send, self._kinds = send, kinds
        self._changed = threading.Condition()
        self._frames: deque[tuple[int, bytearray]] = deque()
        self._unread = 0  # bytes of ours that the guest has used up and that we have not given back
        self._uncounted = self._uncounted_bytes = 0  # frames in all that no window counts, and what is in them
        self._credit = WINDOW
        self._ended: str | None = None

    # -- reader thread

    def take(self, frame: Frame) -> None:
        """A frame for this stream; raises BrokenProtocol when the guest sends more than it may."""
        with self._changed:
            if frame.kind == Kind.WINDOW:
                self._grow(frame.payload)
            elif self._kinds is None or frame.kind in self._kinds:
                self._keep(frame)
            self._changed.notify_all()

    def _keep(self, frame: Frame) -> None:
        counted = frame.kind in COUNTED
        if counted:
            self._unread += len(frame.payload)
        else:
            self._uncounted += 1
            self._uncounted_bytes += len(frame.payload)
        too_much = self._uncounted > MAX_UNCOUNTED or self._uncounted_bytes > MAX_UNCOUNTED_BYTES
        if self._unread > WINDOW or too_much:
            raise BrokenProtocol("the guest ignored the flow control of a stream")
        if counted and self._frames and self._frames[-1][0] == frame.kind and len(self._frames[-1][1]) < CHUNK:
            self._frames[-1][1].extend(frame.payload)  # single bytes must not cost an object each
        elif frame.payload or not counted:
            self._frames.append((frame.kind, bytearray(frame.payload)))

    def _grow(self, payload: bytes) -> None:
        if len(payload) != 4:
            raise BrokenProtocol("the guest sent a malformed window")
        self._credit += struct.unpack("!I", payload)[0]
        if self._credit > WINDOW:
            raise BrokenProtocol("the guest granted more than it was sent")

    def end(self, reason: str) -> None:
        """Nothing more comes; whoever waits is woken."""
        with self._changed:
            self._ended = self._ended or reason
            self._changed.notify_all()

    # -- owner

    def next(self, timeout: float | None) -> Frame | None:
        """The next frame; None when `timeout` seconds passed. Frames that arrived before the end still come first."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._ended is not None, timeout)
            if self._frames:
                kind, payload = self._frames.popleft()
                return Frame(kind, self.number, bytes(payload))
            if self._ended is not None:
                raise ChannelEnded(self._ended)
            return None

    def acknowledge(self, frame: Frame) -> None:
        """Its bytes are used: the guest may send as many again."""
        if frame.payload and frame.kind in COUNTED:
            with self._changed:
                self._unread -= len(frame.payload)
            self._send(Kind.WINDOW, self.number, struct.pack("!I", len(frame.payload)))

    def push(self, kind: Kind, data: bytes) -> None:
        """Send data, waiting for credit; raises ChannelEnded."""
        rest = memoryview(data)
        while rest:
            with self._changed:
                self._changed.wait_for(lambda: self._credit > 0 or self._ended is not None)
                if self._ended is not None:
                    raise ChannelEnded(self._ended)
                count = min(self._credit, len(rest), CHUNK)
                self._credit -= count
            self._send(kind, self.number, bytes(rest[:count]))
            rest = rest[count:]

    def answer(self, timeout: float) -> Frame:
        """The one frame that answers a request; raises ChannelEnded, also when none comes in time."""
        frame = self.next(timeout)
        if frame is None:
            raise ChannelEnded(f"the guest did not answer within {timeout:.0f} s")
        return frame
