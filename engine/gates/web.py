"""One careful GET, for the kinds that look from the worker's host: bounded in time and size, and going nowhere else.

No redirects, no proxies or .netrc of the environment, no cookies, no decompression; one connection a call.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import requests
import urllib3.exceptions

from engine.gates.certificate import Certificate, Witness, trusting, why_not

MAX_BODY = 256 * 1024
CHUNK = 16 * 1024
GRACE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: status, body, milliseconds until the body's end, and over https what it proved itself with."""

    status: int
    body: bytes
    ms: int
    certificate: Certificate | None = None


class NoAnswer(Exception):
    """Nothing usable came back; the message is for a person."""


class TooMuch(Exception):
    """More than MAX_BODY came back."""


Outcome = Answer | NoAnswer | TooMuch


class Get(Protocol):
    """What `get` is to the kinds: the outermost thing that they ask, which `engine.proving` answers from a record."""

    def __call__(
        self, url: str, timeout_s: float, params: Mapping[str, str] | None = None, ca: str | None = None, /
    ) -> Answer: ...


def get(url: str, timeout_s: float, params: Mapping[str, str] | None = None, ca: str | None = None) -> Answer:
    """Ask once; raises NoAnswer (refused, timed out, broken off, not trusted) or TooMuch; BadInput for a `ca` that
    is none. The time covers the whole exchange. `ca`: the file of certificates that https is verified with; without it
    those that the system trusts.

    A socket's timeout counts from byte to byte, so a server that drips its headers could hold us for hours: the
    exchange has a thread of its own, which is left behind when the time is over.
    """
    trusted = trusting(ca) if url.lower().startswith("https://") else None
    box: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    threading.Thread(
        target=_exchange, args=(url, timeout_s, params, trusted, box), name="gate-get", daemon=True
    ).start()
    try:
        outcome = box.get(timeout=timeout_s + GRACE_S)
    except queue.Empty:
        raise NoAnswer(_too_late(timeout_s)) from None
    if isinstance(outcome, Answer):
        return outcome
    raise outcome


def _exchange(
    url: str,
    timeout_s: float,
    params: Mapping[str, str] | None,
    trusted: ssl.SSLContext | None,
    box: queue.SimpleQueue[Outcome],
) -> None:
    try:
        box.put(_ask(url, timeout_s, params, trusted))
    except TooMuch as error:
        box.put(error)
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        box.put(NoAnswer(_too_late(timeout_s)))
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        box.put(NoAnswer(_innermost(error)))


def _ask(url: str, timeout_s: float, params: Mapping[str, str] | None, trusted: ssl.SSLContext | None) -> Answer:
    begun = time.monotonic()
    with requests.Session() as session:
        session.trust_env = False
        witness = Witness(trusted) if trusted else None
        if witness:
            session.mount("https://", witness)
        headers = {"Accept-Encoding": "identity", "User-Agent": "signalbox-gate"}
        with session.get(
            url, params=params, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
        ) as response:
            body = _read(response, begun + timeout_s)
            return Answer(
                status=response.status_code,
                body=body,
                ms=round((time.monotonic() - begun) * 1000),
                certificate=witness.shown if witness else None,
            )


def _read(response: requests.Response, deadline: float) -> bytes:
    body = b""
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        body += chunk
        if len(body) > MAX_BODY:
            raise TooMuch(f"more than {MAX_BODY // 1024} KiB")
        if time.monotonic() > deadline:
            raise requests.Timeout
    return body


def _too_late(timeout_s: float) -> str:
    return f"no answer within {timeout_s:g} s"


def _innermost(error: BaseException) -> str:
    """The reason within: the wrappers of requests and urllib3 print the addresses of objects."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, ssl.SSLCertVerificationError):
        return why_not(error)
    return f"{type(error).__name__}: {error}"[:200]
