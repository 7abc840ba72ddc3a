"""A TCP proxy before Postgres that cuts a connection in the middle of a commit, on either side of it."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from collections.abc import Iterator

COMMIT = b"COMMIT"


class Cut(enum.StrEnum):
    """Where: the server never hears the COMMIT, or the client never hears that it was done."""

    BEFORE = "before the server heard it"
    AFTER = "before the client heard that it was done"


class Proxy:
    """Passes everything on, until told to cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._countdown, self._where = 0, Cut.BEFORE
        self.cut_at = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, nth: int, where: Cut) -> None:
        """Cut the connection that says the nth COMMIT from now on. `cut_at` is set when it is done."""
        with self._lock:
            self._countdown, self._where = nth, where
            self.cut_at.clear()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            silenced = threading.Event()
            threading.Thread(target=self._up, args=(client, server, silenced), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server, silenced), daemon=True).start()

    def _due(self, data: bytes) -> Cut | None:
        if COMMIT not in data:
            return None
        with self._lock:
            self._countdown -= 1
            return self._where if self._countdown == 0 else None

    def _up(self, client: socket.socket, server: socket.socket, silenced: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                due = self._due(data)
                if due is Cut.BEFORE:
                    self.cut_at.set()
                    break
                if due is Cut.AFTER:
                    silenced.set()
                server.sendall(data)
        _hang_up(server)
        if not silenced.is_set():
            _hang_up(client)

    def _down(self, client: socket.socket, server: socket.socket, silenced: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if silenced.is_set():  # the server has answered, so it is done; nobody hears of it
                    self.cut_at.set()
                    break
                client.sendall(data)
        _hang_up(client)
        _hang_up(server)


def _hang_up(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


@contextlib.contextmanager
def before(port: int) -> Iterator[Proxy]:
    """A proxy before the server on this port."""
    made = Proxy(port)
    try:
        yield made
    finally:
        made.close()
