"""The wire of a step VM, guest side: frames on the virtio-serial port, byte streams under credit.

Frame: type (1 byte), stream (4), length (4), payload; big-endian. Streams opened by the host are odd, by the guest
even. Every stream has a window of WINDOW bytes in each direction, refilled by Kind.WINDOW. The constants serve the host
as well (`engine.runtime.frames`). Standard library only: this file runs in the VM.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import select
import socket
import struct
import threading
from pathlib import Path
from typing import Any

PORT = "signalbox.agent.0"
VERSION = 3
HEADER = struct.Struct("!BII")
WINDOW = 256 * 1024
CHUNK = 32 * 1024
PROXY_PORT = 3128
NETLINK_KOBJECT_UEVENT = 15


class Kind(enum.IntEnum):
    """Frame types, for both ends."""

    HELLO = 1
    SETUP = 2
    PUT = 3
    EXEC = 4
    STDIN = 5
    EOF = 6
    STDOUT = 7
    STDERR = 8
    EXIT = 9
    KILL = 10
    COLLECT = 11
    FILE = 12
    DATA = 13
    OK = 14
    ERR = 15
    OPEN = 16
    OPENED = 17
    WINDOW = 18
    CLOSE = 19
    PING = 20
    REST = 21


def find_port(name: str) -> str:
    """The device of our virtio-serial port; it appears soon after the driver is loaded, and the kernel says so."""
    base = Path("/sys/class/virtio-ports")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as news:
        news.bind((0, 1))  # before the first look, so that nothing is missed
        while True:
            for device in base.iterdir():
                with contextlib.suppress(OSError):
                    if (device / "name").read_text().strip() == name:
                        return f"/dev/{device.name}"
            with contextlib.suppress(OSError):  # more news than there was room for: look again
                news.recv(4096)


class Line:
    """The port. Writes wait for room until the host has left; after that they vanish, so that nobody hangs on them."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._lock = threading.Lock()
        self.alone = False

    def send(self, kind: Kind, stream: int, payload: bytes | dict[str, Any] = b"") -> None:
        if isinstance(payload, dict):
            payload = json.dumps(payload).encode()
        rest = memoryview(HEADER.pack(kind, stream, len(payload)) + payload)
        with self._lock:
            while rest and not self.alone:
                try:
                    rest = rest[os.write(self._fd, rest[:CHUNK]) :]
                except BlockingIOError:
                    select.select([], [self._fd], [], 0.05)
                except OSError:
                    self.alone = True

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; raises EOFError when the host has left."""
        out = bytearray()
        while len(out) < count:
            try:
                piece = os.read(self._fd, count - len(out))
            except BlockingIOError:
                select.select([self._fd], [], [])
                continue
            except ConnectionError:
                piece = b""
            if not piece:
                raise EOFError
            out += piece
        return bytes(out)


class Stream:
    """Bytes in both directions under credit: what came from the host waits in a queue, what goes there needs credit."""

    def __init__(self, line: Line, number: int) -> None:
        self.line, self.number = line, number
        self.opened = threading.Event()
        self.refusal: str | None = None
        self._changed = threading.Condition()
        self._queue: list[bytes] = []
        self._eof = False
        self._credit = WINDOW
        self.dead = False
        self.broken = False  # it did not end by itself

    def feed(self, data: bytes) -> None:
        with self._changed:
            self._queue.append(data)
            self._changed.notify_all()

    def feed_eof(self) -> None:
        with self._changed:
            self._eof = True
            self._changed.notify_all()

    def kill(self) -> None:
        with self._changed:
            self.dead = self._eof = True
            self._changed.notify_all()
        self.opened.set()

    def grant(self, count: int) -> None:
        with self._changed:
            self._credit += count
            self._changed.notify_all()

    def get(self) -> bytes:
        """The next bytes from the host, b"" at their end."""
        with self._changed:
            while not self._queue and not self._eof:
                self._changed.wait()
            if not self._queue:
                return b""
            data = self._queue.pop(0)
        self.line.send(Kind.WINDOW, self.number, struct.pack("!I", len(data)))
        return data

    def push(self, kind: Kind, data: bytes) -> None:
        """Send, waiting for credit. Once the host has left, the bytes are dropped."""
        rest = memoryview(data)
        while rest:
            with self._changed:
                while self._credit <= 0 and not self.dead:
                    self._changed.wait()
                if self.dead:
                    return
                count = min(self._credit, len(rest), CHUNK)
                self._credit -= count
            self.line.send(kind, self.number, bytes(rest[:count]))
            rest = rest[count:]
