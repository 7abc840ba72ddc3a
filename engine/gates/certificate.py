"""The certificate that an https end proved itself with. For `web`, which verifies it before it is read here."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Any

from requests.adapters import HTTPAdapter

from engine.domain.errors import BadInput

DAY_S = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What it says. `subject` and `issuer` are `name=value, ...`; `names`: DNS names and addresses; `serial` is hex."""

    days_left: float
    subject: str
    issuer: str
    names: tuple[str, ...]
    serial: str


def trusting(ca: str | None) -> ssl.SSLContext:
    """Trusts the certificates in this file and nothing else; without one, those that the system trusts.

    Raises BadInput when the file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise BadInput(
            f"http_ca {ca}: {error.strerror or error}", "fix it in the file SIGNALBOX_SITES: PEM certificates"
        ) from None


class Witness(HTTPAdapter):
    """Keeps the certificate of the last handshake: at the end of an answer it is gone with its connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.shown: Certificate | None = None
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See the base class."""
        self._context.sslsocket_class = _socket(self)
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:  # noqa: ARG002 - the base class has it
        """Whom to trust stands in the context; the base class would trust a list of its own besides."""
        conn.cert_reqs = "CERT_REQUIRED"


def _socket(witness: Witness) -> type[ssl.SSLSocket]:
    class Seen(ssl.SSLSocket):
        """A socket that shows its witness the verified certificate."""

        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            witness.shown = _read(self.getpeercert())

    return Seen


def _read(said: Any) -> Certificate | None:
    """From the form that `ssl` gives a verified certificate. Raises ValueError, KeyError."""
    if not said:
        return None
    return Certificate(
        days_left=(ssl.cert_time_to_seconds(said["notAfter"]) - time.time()) / DAY_S,
        subject=_name(said["subject"]),
        issuer=_name(said["issuer"]),
        names=tuple(str(value) for _, value in said.get("subjectAltName", ())),
        serial=str(said["serialNumber"]),
    )


def _name(parts: Any) -> str:
    return ", ".join(f"{name}={value}" for part in parts for name, value in part)


def why_not(error: ssl.SSLCertVerificationError) -> str:
    """Why it does not verify, for a person."""
    return f"its certificate does not verify: {error.verify_message}"
