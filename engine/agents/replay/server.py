"""The server: one port or one socket, every format, a model behind it."""

from __future__ import annotations

import json
import secrets
import socket
import socketserver
import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.agents.replay.conversation import Fault, Model, Request, Turn, with_ids
from engine.agents.replay.wires import WIRES
from engine.agents.replay.wires.wire import Wire
from engine.domain.errors import BadInput, SignalboxError, TooLarge, Unauthenticated
from engine.domain.gate import Json

MOST_BYTES = 8 << 20
""" Of a request: well over what fits a model's context. """

IDLE_S = 60.0
_STATUS: Mapping[type[SignalboxError], int] = {Unauthenticated: 401, TooLarge: 413}


class ReplayServer:
    """Serves a model while its `with` block lasts.

    `port`: of loopback, 0 for any free one. `socket_path`: a unix socket instead. `key`: what requests must bear, as
    providers demand it; None: nothing is demanded. `requests`: what was asked, in order of arrival; `refused`: what
    was answered with an error, as the client was told it.
    """

    def __init__(self, model: Model, *, port: int = 0, socket_path: Path | None = None, key: str | None = None) -> None:
        self.model = model
        self.requests: list[Request] = []
        self.refused: list[str] = []
        self.key = key
        handler = type("Bound", (_Handler,), {"ours": self})
        self._server: _Server = _UnixServer(socket_path, handler) if socket_path else _Server(port, handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = "http://model" if socket_path else f"http://127.0.0.1:{self._server.server_address[1]}"
        """ The base of Anthropic's clients; OpenAI's want `/v1` after it. Any host is right over a unix socket. """

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Until somebody interrupts it."""
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # the end of the server is the end of its threads
    request_queue_size = 128

    def __init__(self, address: Any, handler: type[_Handler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(self._place(address), handler)

    @staticmethod
    def _place(address: Any) -> Any:
        return ("127.0.0.1", address)

    def server_bind(self) -> None:
        """Without asking a resolver for our name."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Keep the connection in mind, for the end."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The connection is over."""
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Wake the threads that wait for a client to say more, then wait for them."""
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its client was faster
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no error of ours."""


class _UnixServer(_Server):
    address_family = socket.AF_UNIX
    allow_reuse_address = False

    @staticmethod
    def _place(address: Any) -> Any:
        return str(address)

    def server_close(self) -> None:
        """The socket's name goes too."""
        super().server_close()
        Path(str(self.server_address)).unlink(missing_ok=True)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    ours: ReplayServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def do_POST(self) -> None:
        """A request to the model."""
        wire = WIRES.get(self.path.partition("?")[0])
        if wire is None:
            self._refuse(404, f"no such path here: {self.path[:100]!r}; there are {', '.join(sorted(WIRES))}")
            return
        try:
            request = wire.read(self._body())
            self._admit()
            self.ours.requests.append(request)
            said = self.ours.model.answer(request)
        except SignalboxError as error:
            self._refuse(_STATUS.get(type(error), 400), str(error), wire)
            return
        if isinstance(said, Fault):
            self._refuse(said.status, said.message, wire)
        else:
            self._tell(wire, request, with_ids(said, len(request.turns) + 1))

    def do_GET(self) -> None:
        """Nothing is to be got here."""
        self._refuse(405, f"only POST, to {', '.join(sorted(WIRES))}")

    do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Requests are kept, not printed."""

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            raise BadInput("a request says how long it is (Content-Length)")
        if int(length) > MOST_BYTES:
            self.close_connection = True
            raise TooLarge(f"the request has {int(length):,} bytes; the most is {MOST_BYTES:,}")
        return self.rfile.read(int(length))

    def _admit(self) -> None:
        """Raises Unauthenticated."""
        if self.ours.key is None:
            return
        borne = self.headers.get("x-api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(borne.encode(), self.ours.key.encode()):
            raise Unauthenticated("this key opens nothing here")

    def _tell(self, wire: Wire, request: Request, turn: Turn) -> None:
        if request.stream:
            self._stream(wire.events(turn, request))
        else:
            self._send(200, wire.told(turn, request))

    def _refuse(self, status: int, message: str, wire: Wire | None = None) -> None:
        self.ours.refused.append(message)
        self.close_connection = self.close_connection or wire is None  # what came with it was not read
        self._send(status, (wire or next(iter(WIRES.values()))).error(status, message))

    def _send(self, status: int, said: Json) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self._end()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, events: Iterable[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self._end()
        for event in (*events, b""):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def _end(self) -> None:
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
