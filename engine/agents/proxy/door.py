"""Doors to models. `ModelProxy.door` opens one for one agent step."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.agents.models import Models
from engine.agents.proxy.grant import Grant
from engine.agents.proxy.handler import serve
from engine.agents.proxy.ledger import Ledger
from engine.agents.proxy.listening import Listening
from engine.agents.proxy.upstream import must_verify
from engine.domain.agent import Api, Budget, Usage
from engine.domain.directory import Address
from engine.domain.errors import BadInput, Unavailable

LOOPBACK = "127.0.0.1"
SOCKET = "model.sock"
BACKLOG = 16
PATIENCE_S = 5.0
""" For what was cut to count what it cost. What takes longer is counted whole. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What a step is told. `socket`: a unix socket, alone in a folder that is ours; `port`: the same on 127.0.0.1.

    `token` goes into `x-api-key` or `Authorization: Bearer`. `model`: the name that a client asks for, its provider's.
    Paths begin with /v1. `refusals`: what was refused up to now, short texts for the transcript.
    """

    socket: Path
    port: int
    token: str = field(repr=False)
    api: Api
    model: str
    refusals: list[str]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where a door will be: a `port` of 127.0.0.1 that is taken already."""

    listener: socket.socket
    port: int


class ModelProxy:
    """Opens doors. `models`: the file as it is now. Each door has listeners of its own, so no step is in another's
    way, and what ends with the step is not there any more."""

    def __init__(self, models: Callable[[], Models]) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._ports: set[int] = set()

    @property
    def ends(self) -> tuple[Address, ...]:
        """The ports that are open now: no grant of a step leads there."""
        with self._lock:
            return tuple(Address(host=LOOPBACK, port=port) for port in sorted(self._ports))

    @contextlib.contextmanager
    def threshold(self) -> Iterator[Threshold]:
        """The place of a door that is opened later, by one who must be told its port before. Until then a client
        waits there, and nobody answers."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            port = _listen(listener)
            with self._known(port):
                yield Threshold(listener, port)

    @contextlib.contextmanager
    def door(
        self,
        *,
        model: str,
        budget: Budget,
        used: Usage,
        spend: Callable[[Usage], Usage],
        lives_s: float,
        at: Threshold | None = None,
    ) -> Iterator[Door]:
        """A door to the model of this name. `used`: what earlier attempts used; `spend` adds to it and returns the
        sum; threads of the door call it, one at a time, until this block is left. Leaving cuts what is under way.
        `at`: its port is that of a threshold, which ends with the door.

        Raises BadInput: no such model, no key, a budget of money for a model without a price; Unavailable: no socket.
        """
        known = self._models().named(model)
        if budget.microdollars is not None and known.price is None:
            raise BadInput(
                f"the step's budget is in dollars, and model {model} has no price",
                f"add `price: {{input: ..., output: ...}}` to it in {self._models().path}, in USD per million tokens",
            )
        must_verify(known)
        token = secrets.token_urlsafe(32)
        ledger = Ledger(budget, used, spend, known.price)
        grant = Grant(token, known, known.key(), ledger, lives_s)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="signalbox-model-")))  # 0700
            path = folder / SOCKET
            try:
                sockets = _listeners(stack, path, at)
            except OSError as error:
                why = f"cannot listen for the step's model at {path}: {error}"
                raise Unavailable(why, "set TMPDIR to a short path of a folder with room") from None
            port = int(sockets[1].getsockname()[1])
            listening = Listening(sockets, lambda connection: serve(connection, grant))
            stack.enter_context(self._known(port))
            stack.callback(ledger.close)
            stack.callback(listening.close, PATIENCE_S)
            stack.callback(grant.end)
            listening.start()
            yield Door(socket=path, port=port, token=token, api=known.api, model=known.model, refusals=grant.refusals)

    @contextlib.contextmanager
    def _known(self, port: int) -> Iterator[None]:
        with self._lock:
            self._ports.add(port)
        try:
            yield
        finally:
            with self._lock:
                self._ports.discard(port)


def _listeners(stack: contextlib.ExitStack, path: Path, at: Threshold | None) -> tuple[socket.socket, socket.socket]:
    """A unix socket at `path`, and a loopback port: that of the threshold, if there is one."""
    local = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    local.bind(str(path))
    local.listen(BACKLOG)
    if at is not None:
        return local, at.listener
    tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    _listen(tcp)
    return local, tcp


def _listen(tcp: socket.socket) -> int:
    """At any free port of loopback; returns it."""
    tcp.bind((LOOPBACK, 0))
    tcp.listen(BACKLOG)
    return int(tcp.getsockname()[1])
