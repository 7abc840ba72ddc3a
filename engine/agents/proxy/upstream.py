"""One exchange with a provider: no redirect, no environment's proxy, no cookies, bounded in time, cut from outside.

The key goes into one header of ours and comes back in nothing: `Mask` takes it out of whatever a server echoes.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from urllib.parse import urlsplit

from engine.agents.models import Model
from engine.agents.proxy.declined import Declined
from engine.agents.proxy.request import PATHS
from engine.domain.agent import Api
from engine.domain.errors import BadInput

CONNECT_S = 10.0
SILENCE_S = 600.0
""" A model that thinks may say nothing for minutes. """
ANTHROPIC_VERSION = "2023-06-01"
MARK = b"(key)"


def must_verify(model: Model) -> None:
    """Its certificates can be read; raises BadInput."""
    try:
        ssl.create_default_context(cafile=model.ca)
    except OSError as error:  # an SSLError is one
        why = error.strerror or "no certificates in it"
        raise BadInput(f"model {model.name}: cannot read {model.ca}: {why}", "give its `ca` a file of PEM") from None


class Upstream:
    """One connection to a model's server, for one request."""

    def __init__(self, model: Model, key: str) -> None:
        self._model, self._key = model, key
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False
        parsed = urlsplit(model.url)
        self._path = parsed.path + PATHS[model.api]
        host = parsed.hostname or ""
        if parsed.scheme == "https":
            context = ssl.create_default_context(cafile=model.ca)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parsed.port, timeout=CONNECT_S, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, parsed.port, timeout=CONNECT_S)

    def connect(self) -> None:
        """Reach the server; raises Declined. Nothing was asked yet."""
        try:
            self._connection.connect()
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a name that cannot be encoded
            raise Declined(502, f"the model's server cannot be reached ({type(error).__name__})") from None
        with self._lock:
            self._socket = self._connection.sock
            if self._cut:
                _shut(self._socket)

    def ask(self, body: bytes, lasts_s: float) -> http.client.HTTPResponse:
        """Send the request, return the answer's head. Raises OSError, HTTPException: it may have been read."""
        self._connection.sock.settimeout(max(0.1, min(SILENCE_S, lasts_s)))
        self._connection.request("POST", self._path, body, self._headers())
        return self._connection.getresponse()

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "signalbox",
        }
        if self._model.api is Api.ANTHROPIC:
            headers["anthropic-version"] = ANTHROPIC_VERSION
        if self._key and self._model.api is Api.ANTHROPIC:
            headers["x-api-key"] = self._key
        elif self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def cut(self) -> None:
        """Break it off, from any thread. What waits on it gets an end of file or an error."""
        with self._lock:
            self._cut = True
            if self._socket is not None:
                _shut(self._socket)

    def close(self) -> None:
        """It is over."""
        with self._lock:
            self._socket = None
        self._connection.close()


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS: nothing is said any more


class Mask:
    """Takes a key out of bytes that come in pieces. Holds back only what may be the begin of it."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """What may be passed on now."""
        if not self._key:
            return chunk
        text = (self._rest + chunk).replace(self._key, MARK)
        held = next((size for size in range(len(self._key) - 1, 0, -1) if text.endswith(self._key[:size])), 0)
        self._rest = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> bytes:
        """The rest."""
        rest, self._rest = self._rest, b""
        return rest
