"""TCP streams that a guest opened, carried to what the directory names. Two threads each. Used by the channel."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from engine.domain.ports import Reach
from engine.runtime import egress
from engine.runtime.egress import UsedUp
from engine.runtime.frames import Kind, encode, json_object
from engine.runtime.resolving import NotAllowed
from engine.runtime.streams import CHUNK, ChannelEnded, Stream

MAX_TUNNELS = 256
BROKEN = b"broken"
""" In a CLOSE: the connection did not end by itself, so the guest's program must not take it for a proper end. """
HEARD = frozenset({Kind.DATA, Kind.EOF, Kind.CLOSE})
CLOSES_WITHIN_S = 2.0


class Tunnels:
    """All tunnels of one VM. `write` puts bytes on the wire without blocking."""

    def __init__(self, rules: egress.Egress, write: Callable[[bytes], None]) -> None:
        self._rules, self._write = rules, write
        self._lock = threading.Lock()
        self._threads: dict[int, threading.Thread] = {}
        self._streams: dict[int, Stream] = {}
        self._connections: dict[int, socket.socket] = {}
        self._over = ""

    def stream(self, number: int) -> Stream | None:
        """The stream of a live tunnel."""
        with self._lock:
            return self._streams.get(number)

    def open(self, number: int, payload: bytes) -> None:
        """The guest asks for a connection. Never blocks; raises BrokenProtocol for a request that is not one."""
        request = json_object(payload)
        host, port = request.get("host"), request.get("port")
        host = host if isinstance(host, str) else ""
        port = port if type(port) is int and 0 < port < 65536 else 0
        entry, reach = self._rules.ask(host, port)
        if reach is None:
            self._refuse(number, f"egress to {entry.host}:{port} is refused: {entry.error}")
            return
        with self._lock:
            if why := self._no_room(number):
                self._rules.refuse(entry, why)
                self._refuse(number, entry.error)
                return
            stream = Stream(number, lambda kind, stream, data: self._write(encode(kind, stream, data)), HEARD)
            self._streams[number] = stream
            thread = threading.Thread(target=self._carry, args=(stream, entry, reach), daemon=True, name="egress")
            self._threads[number] = thread
            thread.start()

    def _no_room(self, number: int) -> str:
        if self._over:
            return self._over
        if number == 0 or number % 2 or number in self._streams:
            return "no connection can have this number"
        return "too many connections at once" if len(self._streams) >= MAX_TUNNELS else ""

    def end(self, reason: str) -> None:
        """Every tunnel ends, and none begins any more; returns when their connections are closed (or after a moment).

        One that hangs in a far end that does not read is cut.
        """
        with self._lock:
            self._over = reason
            streams, threads = list(self._streams.values()), list(self._threads.values())
            connections = list(self._connections.values())
        for stream in streams:
            stream.end(reason)
        for connection in connections:
            _cut(connection)
        until = time.monotonic() + CLOSES_WITHIN_S
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _refuse(self, number: int, reason: str) -> None:
        self._write(encode(Kind.OPENED, number, {"error": reason}))

    @contextlib.contextmanager
    def _known(self, stream: Stream, connection: socket.socket) -> Iterator[None]:
        """While this lasts, `end` reaches the connection."""
        with self._lock:
            self._connections[stream.number] = connection
            if self._over:
                _cut(connection)
        try:
            yield
        finally:
            with self._lock:
                del self._connections[stream.number]

    def _carry(self, stream: Stream, entry: egress.Entry, reach: Reach) -> None:
        try:
            try:
                connection = self._rules.connect(reach)
            except NotAllowed as refusal:
                self._rules.refuse(entry, str(refusal))
                self._refuse(stream.number, f"egress to {entry.host}:{entry.port} is refused for where it leads")
                return
            except OSError as error:
                entry.end(f"could not connect: {error.strerror or error}")
                self._refuse(stream.number, entry.error)
                return
            with connection, self._known(stream, connection):
                self._write(encode(Kind.OPENED, stream.number, {"error": None}))
                down = threading.Thread(target=self._down, args=(stream, connection, entry), daemon=True)
                down.start()
                self._up(stream, connection, entry)
                down.join()
            entry.end()
            self._write(encode(Kind.CLOSE, stream.number, BROKEN if entry.error else b""))
        finally:
            with self._lock:
                self._streams.pop(stream.number, None)
                self._threads.pop(stream.number, None)

    def _up(self, stream: Stream, connection: socket.socket, entry: egress.Entry) -> None:
        """Guest to network, until the guest closes. A half-close (EOF) leaves the other direction open."""
        try:
            while (frame := stream.next(None)) is not None and frame.kind != Kind.CLOSE:
                if frame.kind == Kind.DATA:
                    self._rules.spend(entry, up=len(frame.payload))
                    connection.sendall(frame.payload)
                    stream.acknowledge(frame)
                elif frame.kind == Kind.EOF:
                    connection.shutdown(socket.SHUT_WR)
        except (OSError, ChannelEnded, UsedUp) as error:
            entry.error = entry.error or str(error)
        stream.end("closed")
        _cut(connection)  # wakes the other direction

    def _down(self, stream: Stream, connection: socket.socket, entry: egress.Entry) -> None:
        """Network to guest, until the far end closes. Only its own end is told to the guest as one."""
        try:
            while data := connection.recv(CHUNK):
                self._rules.spend(entry, down=len(data))
                stream.push(Kind.DATA, data)
        except ChannelEnded:
            return  # the guest, or the task, closed it
        except (OSError, UsedUp) as error:
            entry.error = entry.error or str(error)
            stream.end(entry.error)  # wakes the other direction
            return
        if not entry.error:
            self._write(encode(Kind.EOF, stream.number))


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
