"""Listeners of one door: a thread a connection, a few at once, all of them cut when the door closes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

MOST_CONNECTIONS = 16
""" Of one door: a step that opens more harms itself only. """


class Listening:
    """Accepts on `sockets` until it is closed, and has each connection handled in a thread of its own."""

    def __init__(self, sockets: tuple[socket.socket, ...], handle: Callable[[socket.socket], None]) -> None:
        self._sockets, self._handle = sockets, handle
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._accept, args=(one,), name="model-door", daemon=True) for one in sockets
        ]

    def start(self) -> None:
        """Begin to accept."""
        for thread in self._threads:
            thread.start()

    def close(self, patience_s: float) -> None:
        """Accept no more, cut what is there, and wait until it was handled to its end, or patience is over."""
        with self._changed:
            self._closed = True
            cut = (*self._sockets, *self._open)
        for one in cut:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()
        deadline = time.monotonic() + patience_s
        with self._changed:
            self._changed.wait_for(lambda: not self._open, max(0.0, deadline - time.monotonic()))

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed, or no file descriptor is left: then who asks is told by silence
                if not self._closed:
                    self._breathe()
                continue
            with self._changed:
                welcome = not self._closed and len(self._open) < MOST_CONNECTIONS
                if welcome:
                    self._open.add(connection)
            if welcome:
                threading.Thread(target=self._serve, args=(connection,), name="model-call", daemon=True).start()
            else:
                connection.close()

    def _breathe(self) -> None:
        with self._changed:
            self._changed.wait(0.1)

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._handle(connection)
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            with self._changed:
                self._open.discard(connection)
                self._changed.notify_all()
            connection.close()
