"""One connection of a client: hold what it asks to the grant, pass it on, stream the answer, count what it cost."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import structlog

from engine.agents.proxy import request
from engine.agents.proxy.declined import Declined
from engine.agents.proxy.grant import Grant
from engine.agents.proxy.ledger import Hold, estimated
from engine.agents.proxy.meter import Meter, cost
from engine.agents.proxy.request import Request
from engine.agents.proxy.upstream import Mask, Upstream
from engine.domain.agent import Usage
from engine.domain.gate import Json

log = structlog.get_logger()

MAX_BODY = 4 << 20
MAX_DRAINED = 64 << 20
MAX_ANSWER = 8 << 20
MAX_STREAM = 64 << 20
MAX_ERROR = 64 << 10
CHUNK = 16 << 10
IDLE_S = 60.0
OK, BAD, OURS = 200, 400, 500
EVENTS, JSON = "text/event-stream", "application/json"
KINDS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
KINDS |= {413: "request_too_large", 429: "rate_limit_error"}
BROKEN_OFF = (OSError, http.client.HTTPException)


@dataclass(slots=True)
class Call:
    """What the audit line says of one request."""

    begun: float
    status: int = 0
    usage: Usage = field(default_factory=Usage)
    why: str = ""


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 of one connection. Its base reads the head of a request, bounded."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "signalbox", ""
    timeout = IDLE_S

    def __init__(self, connection: socket.socket, grant: Grant) -> None:
        self._grant = grant
        self._answered = False
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # no server: nothing here asks it

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its base has it
        """The audit line says it."""

    def do_GET(self) -> None:
        """Which model there is: coding CLIs ask."""
        self._take(self._list)

    def do_POST(self) -> None:
        """One request to the model."""
        self._take(self._pass_on)

    def _take(self, act: Callable[[bytes, Call], None]) -> None:
        """The rim of a request: whatever went wrong is an answer, an entry of the transcript, and an audit line."""
        call = Call(time.monotonic())
        self._answered = False
        try:
            body = self._body()
            self._grant.admit(self._tokens())
            act(body, call)
        except Declined as error:
            self._decline(error, call)
        except BROKEN_OFF as error:
            self._decline(Declined(502, f"broken off ({type(error).__name__})"), call)
        except Exception as error:  # noqa: BLE001 - a journal that cannot count; its words are not the client's
            log.error("model call failed", grant=self._grant.name, error=type(error).__name__)
            self._decline(Declined(503, "what it uses cannot be counted"), call)
        finally:
            self._audit(call)

    def _audit(self, call: Call) -> None:
        log.info(
            "model call",
            grant=self._grant.name,
            model=self._grant.model.name,
            status=call.status,
            tokens=call.usage.tokens,
            microdollars=call.usage.microdollars,
            seconds=round(time.monotonic() - call.begun, 3),
            **({"why": call.why} if call.why else {}),
        )

    # -- what came

    def _body(self) -> bytes:
        """The whole body. One that is not taken is read to its end, so that the client reads why."""
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdecimal()):
            self.close_connection = True
            raise Declined(411, "send the body with its Content-Length")
        size = int(length[:12])
        if size <= MAX_BODY:
            body = self.rfile.read(size)
            if len(body) < size:
                raise ConnectionResetError
            return body
        self.close_connection = True
        left = min(size, MAX_DRAINED)
        while left > 0 and (piece := self.rfile.read(min(left, CHUNK))):
            left -= len(piece)
        raise Declined(413, f"a request has at most {MAX_BODY >> 20} MB")

    def _tokens(self) -> tuple[str, ...]:
        """What may be the token, wherever this client puts it."""
        scheme, _, bearer = self.headers.get("Authorization", "").partition(" ")
        given = (self.headers.get("x-api-key", ""), bearer if scheme.lower() == "bearer" else "")
        return tuple(token.strip() for token in given if token.strip())

    def _must_be(self, *paths: str) -> None:
        path = self.path.partition("?")[0]
        if path not in paths:
            raise Declined(404, f"{self.command} {path} is not granted")

    # -- what is answered

    def _list(self, _body: bytes, call: Call) -> None:
        self._must_be("/v1/models")
        entry: Json = {"id": self._grant.model.model, "object": "model", "type": "model"}
        call.status = OK
        self._whole(OK, json.dumps({"object": "list", "data": [entry], "has_more": False}).encode())

    def _pass_on(self, body: bytes, call: Call) -> None:
        grant = self._grant
        self._must_be(f"/v1{request.PATHS[grant.model.api]}")
        asked = request.read(body, grant.model)
        for kind in asked.taken_out:
            grant.refuse(f"a tool of the provider's was taken out: {kind}")
        hold = grant.ledger.hold(asked)
        try:
            with grant.upstream() as upstream:
                call.usage = hold.whole  # until more is known: from here on it may have been read
                self._exchange(upstream, asked, hold, call)
        finally:
            grant.ledger.settle(hold, call.usage)

    def _exchange(self, upstream: Upstream, asked: Request, hold: Hold, call: Call) -> None:
        answer = upstream.ask(asked.body(hold.most), self._grant.left_s)
        call.status = answer.status
        if answer.status != OK:
            call.usage = Usage()  # no provider asks money for an error
            self._grant.ledger.settle(hold, call.usage)
            self._failed(answer)
            return
        if answer.getheader("Content-Encoding", "identity") != "identity":
            raise Declined(502, "the model's server answers in an encoding that was not asked for")
        streams = answer.getheader("Content-Type", "").lower().startswith(EVENTS)
        meter = Meter(asked.api, streams=streams)

        def settle() -> None:
            """Before the client has the end of its answer: what it does next finds this counted."""
            call.usage = cost(estimated(hold, meter.counted, meter.size), self._grant.model.price)
            self._grant.ledger.settle(hold, call.usage)

        try:
            (self._stream if streams else self._at_once)(answer, meter, settle)
        finally:
            settle()

    def _stream(self, answer: http.client.HTTPResponse, meter: Meter, settle: Callable[[], None]) -> None:
        """Pass events on as they come. One that breaks off has no last chunk, so that the client knows."""
        mask = Mask(self._grant.key)
        self._head(OK, EVENTS)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while chunk := answer.read1(CHUNK):
            meter.feed(chunk)
            self._grant.must_live()
            if meter.size > MAX_STREAM:
                raise Declined(502, "the answer is too long")
            self._chunk(mask.feed(chunk))
        must_be_whole(answer)
        meter.end()
        settle()
        self._chunk(mask.end())
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _at_once(self, answer: http.client.HTTPResponse, meter: Meter, settle: Callable[[], None]) -> None:
        body = b""
        while chunk := answer.read1(CHUNK):
            meter.feed(chunk)
            self._grant.must_live()
            body += chunk
            if len(body) > MAX_ANSWER:
                raise Declined(502, "the answer is too long")
        must_be_whole(answer)
        meter.end()
        settle()
        self._whole(OK, masked(body, self._grant.key))

    def _failed(self, answer: http.client.HTTPResponse) -> None:
        """An error of the provider, as it says it; but for what it says of our key, and where it would send us."""
        if answer.status < BAD:
            raise Declined(502, f"the model's server answers {answer.status}; redirects are not followed: mend its url")
        if answer.status == http.HTTPStatus.UNAUTHORIZED:
            raise Declined(502, "the model's provider does not take our key")
        body = masked(answer.read(MAX_ERROR), self._grant.key)
        wait = answer.getheader("Retry-After", "")
        self._whole(answer.status, body, retry_after=wait if re.fullmatch(r"[0-9]{1,5}", wait) else "")

    def _decline(self, error: Declined, call: Call) -> None:
        """Say why not. Once an answer began, only its end can say so."""
        call.status, call.why = error.status, str(error)
        if BAD <= error.status < OURS and error.status != http.HTTPStatus.UNAUTHORIZED:
            self._grant.refuse(str(error))
        if self._answered:
            self.close_connection = True
            return
        kind = KINDS.get(error.status, "api_error")
        told: Json = {"type": "error", "error": {"type": kind, "message": str(error), "code": None}}
        with contextlib.suppress(OSError):
            self._whole(error.status, json.dumps(told).encode(), ours=True)

    def _head(self, status: int, kind: str) -> None:
        self._answered = True
        self.send_response(status)
        self.send_header("Content-Type", kind)

    def _whole(self, status: int, body: bytes, *, retry_after: str = "", ours: bool = False) -> None:
        self._head(status, JSON)
        self.send_header("Content-Length", str(len(body)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        if ours:
            self.send_header("x-should-retry", "false")  # the providers' own libraries heed it
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def must_be_whole(answer: http.client.HTTPResponse) -> None:
    """Raises IncompleteRead where fewer bytes came than were announced; for a chunked answer its reader does."""
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)


def masked(body: bytes, key: str) -> bytes:
    """A whole body without the key."""
    mask = Mask(key)
    return mask.feed(body) + mask.end()


def serve(connection: socket.socket, grant: Grant) -> None:
    """Handle a connection until it ends."""
    with contextlib.suppress(OSError):
        Handler(connection, grant)
