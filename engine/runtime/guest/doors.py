"""The doors of a step VM: loopback listeners whose connections the host may carry on. Used by the agent.

The host decides about every connection; this side only carries bytes. Standard library only: this file runs in the VM.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from engine.runtime.guest.wire import CHUNK, Kind, Line, Stream

MOST_AT_ONCE = 300  # a few more than the host carries, so that it says why; beyond it they wait at the door
DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\nX-Denied: "


class Doors:
    """Listeners, and the streams that they opened. `streams` is the agent's table of all streams."""

    def __init__(self, line: Line, streams: dict[int, Stream]) -> None:
        self._line, self._streams = line, streams
        self._next = 2
        self._lock = threading.Lock()
        self._room = threading.Semaphore(MOST_AT_ONCE)

    def forward(self, address: str, port: int, host: str) -> None:
        """Whoever connects to address:port means host:port."""
        self._listen(address, port, self._forward(host, port))

    def proxy(self, port: int) -> None:
        """An HTTP proxy on loopback, for programs that honour http_proxy."""
        self._listen("127.0.0.1", port, self._proxy)

    def _listen(self, address: str, port: int, serve: Callable[[socket.socket], None]) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = socket.create_server((address, port), family=family, backlog=64)

        def accept() -> None:
            while True:
                self._room.acquire()
                client, _ = server.accept()
                _thread(admit, client)

        def admit(client: socket.socket) -> None:
            try:
                serve(client)
            finally:
                self._room.release()

        _thread(accept)

    def _forward(self, host: str, port: int) -> Callable[[socket.socket], None]:
        def serve(client: socket.socket) -> None:
            with client:
                stream = self._open(host, port)
                if stream.refusal is None:
                    self._carry(client, stream, b"")
                else:
                    _reset(client)
                    self._forget(stream)

        return serve

    def _proxy(self, client: socket.socket) -> None:
        """An HTTP proxy on loopback, for programs that honour http_proxy: CONNECT, and plain http:// requests."""
        with client, contextlib.suppress(OSError):
            client.settimeout(30)
            try:
                host, port, greeting, first = self._proxy_request(client)
            except ValueError:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            client.settimeout(None)
            stream = self._open(host, port)
            if stream.refusal is not None:
                reason = " ".join(stream.refusal.split())[:200].encode("ascii", "replace")
                client.sendall(DENIED + reason + b"\r\n\r\n")
                self._forget(stream)
                return
            client.sendall(greeting)
            self._carry(client, stream, first)

    @staticmethod
    def _proxy_request(client: socket.socket) -> tuple[str, int, bytes, bytes]:
        """(host, port, what the client hears when it is open, first bytes upstream); ValueError for anything else."""
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            piece = client.recv(4096)
            buffer += piece
            if not piece or len(buffer) > 65536:
                raise ValueError("no complete request")
        head, _, rest = buffer.partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        method, target, version = line.decode("latin1").split(" ")
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            return host.strip("[]"), int(port), b"HTTP/1.1 200 OK\r\n\r\n", rest
        if not target.startswith("http://"):
            raise ValueError("neither CONNECT nor http://")
        authority, _, path = target.removeprefix("http://").partition("/")
        host, _, port = authority.partition(":")
        kept = [h for h in headers if not h.lower().startswith((b"proxy-connection:", b"connection:"))]
        start = f"{method} /{path} {version}".encode("latin1")
        return host, int(port or 80), b"", b"\r\n".join([start, *kept, b"Connection: close"]) + b"\r\n\r\n" + rest

    def _open(self, host: str, port: int) -> Stream:
        with self._lock:
            number, self._next = self._next, self._next + 2
            self._streams[number] = stream = Stream(self._line, number)
        stream.refusal = "no answer"
        self._line.send(Kind.OPEN, number, {"host": host, "port": port})
        stream.opened.wait(60)
        return stream

    def _forget(self, stream: Stream) -> None:
        self._line.send(Kind.CLOSE, stream.number)
        self._streams.pop(stream.number, None)

    def _carry(self, client: socket.socket, stream: Stream, first: bytes) -> None:
        def up() -> None:
            with contextlib.suppress(OSError):
                stream.push(Kind.DATA, first)
                while data := client.recv(CHUNK):
                    stream.push(Kind.DATA, data)
            self._line.send(Kind.EOF, stream.number)

        pump = _thread(up)
        try:
            while data := stream.get():
                client.sendall(data)
            if stream.broken:  # never a proper end: the program would take half an answer for a whole one
                _reset(client)
                client.shutdown(socket.SHUT_RD)  # wakes the pump, and tells the program nothing yet
            else:
                client.shutdown(socket.SHUT_RDWR if stream.dead else socket.SHUT_WR)
            pump.join()
        except OSError:
            client.close()
        finally:
            stream.kill()
            self._forget(stream)


def _reset(client: socket.socket) -> None:
    """When it is closed, its program sees that the connection broke."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _thread(target: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread
