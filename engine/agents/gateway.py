"""The gateway of a step's VM: "is this step finished, may I proceed?", answered from the machine's state.

A small HTTP server on loopback, in the worker. A step's VM reaches it through its egress as http://signalbox, with a
token of its own that dies with the step; in the VM `signalbox gate check` asks (`engine/runtime/guest/ask.py`). It says
where the run stands, never what a gate found or would find, and each token may ask only so often.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog

from engine.domain.directory import Address
from engine.domain.errors import SignalboxError
from engine.domain.ports import Reach
from engine.domain.rate import Bucket, Rate, full
from engine.domain.standing import Standing

log = structlog.get_logger()

HOST, PORT = "signalbox", 80
PATH = "/v1/step"
GIVEN = "/step/.gateway.json"
""" Where the pass lies in the VM. """
RATE = Rate(burst=10, per_minute=30)
SILENCE_S = 20.0
""" A connection that says nothing for so long is closed: a guest holds no thread of ours. """


@dataclasses.dataclass(slots=True)
class _Door:
    """What one token may ask. `asked`: how often, refused ones too."""

    step: str
    standing: Callable[[], Standing]
    bucket: Bucket
    asked: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """How one step's VM asks."""

    token: str
    url: str = f"http://{HOST}{PATH}"


class Gateway:
    """One per worker process. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._doors: dict[bytes, _Door] = {}
        self._lock = threading.Lock()
        self._server = _Server(self.answer)
        threading.Thread(target=self._server.serve_forever, daemon=True, name="gateway").start()

    def reach(self) -> Reach:
        """What a step's VM dials, and where that leads."""
        return Reach(host=HOST, port=PORT, address="127.0.0.1", address_port=self._server.server_port)

    @property
    def end(self) -> Address:
        """Our own end, which no step's grant may lead to."""
        return Address(host="127.0.0.1", port=self._server.server_port)

    @contextlib.contextmanager
    def door(self, step: str, standing: Callable[[], Standing]) -> Iterator[Pass]:
        """While this lasts, a token that may ask about this step. `standing` raises SignalboxError: not known now."""
        token = secrets.token_urlsafe(32)
        key = _key(token)
        with self._lock:
            self._doors[key] = _Door(step, standing, full(RATE, self._clock()))
        try:
            yield Pass(token=token)
        finally:
            with self._lock:
                door = self._doors.pop(key)
            log.info("the gateway was asked", step=step, times=door.asked)

    def answer(self, token: str) -> tuple[int, dict[str, object], int]:
        """Status, body, and the seconds after which to ask again (0: whenever)."""
        with self._lock:
            door = self._doors.get(_key(token))
            wait = door.bucket.take(self._clock()) if door is not None else 0.0
            if door is not None:
                door.asked += 1
        if door is None:
            return 401, {"reason": "not authenticated"}, 0
        if wait:
            return (
                429,
                {"reason": "asked too often: nothing new can be heard before this step has ended"},
                int(wait) + 1,
            )
        try:
            found = door.standing()
            step = found.of(door.step)
        except (SignalboxError, KeyError) as error:
            log.warning("the gateway cannot tell where a run stands", step=door.step, why=str(error))
            return 503, {"reason": "not known now: ask again"}, 5
        return 200, {**dataclasses.asdict(step), "run": dataclasses.asdict(found)}, 0

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


Answer = Callable[[str], tuple[int, dict[str, object], int]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A guest that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENCE_S
    server_version, sys_version = "signalbox", ""

    def do_GET(self) -> None:  # the base asks for this name
        """The one question."""
        if self.path != PATH:
            self._tell(404, {"reason": f"there is only {PATH}"}, 0)
            return
        self._tell(*self.server.answer(self.headers.get("Authorization", "").removeprefix("Bearer ")))

    def _tell(self, status: int, body: dict[str, object], again_s: int) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        if again_s:
            self.send_header("Retry-After", str(math.ceil(again_s)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base has it
        """The door's own line says how often."""
