"""How to reach a Vault or OpenBao: over TLS, over loopback, or over a unix socket. `vault` opens sessions with this."""

from __future__ import annotations

import socket
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.exceptions

from engine.domain.errors import BadInput

_SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultConnection:
    """Where the Vault is, and who we are there (AppRole). Exactly one of `url` and `socket` is set.

    `ca` is a file of trusted certificates; without it those of the system count. `namespace` as in OpenBao.
    """

    url: str = ""
    socket: Path | None = None
    role_id: str = "op-bot"
    secret_id: str = field(default="", repr=False)
    ca: Path | None = None
    namespace: str | None = None

    @property
    def base(self) -> str:
        """The base URL for requests."""
        return "http://localhost" if self.socket else self.url

    @property
    def shown(self) -> str:
        """For people."""
        return f"unix://{self.socket}" if self.socket else self.url

    def session(self) -> requests.Session:
        """A new HTTP session for one thread. It ignores the environment's proxies and credentials."""
        session = requests.Session()
        session.trust_env = False
        # hvac lets the session's own `verify` win over what it is given, so it must be set here
        trusted = self.ca or (_SYSTEM_CA if _SYSTEM_CA.exists() else None)
        session.verify = str(trusted) if trusted else True
        if self.socket:
            session.mount("http://", _UnixAdapter(str(self.socket)))
        return session


def connect_to(
    address: str, *, role_id: str = "op-bot", secret_id: str = "", ca: Path | None = None, namespace: str | None = None
) -> VaultConnection:
    """A connection from `https://...`, `http://` on loopback, or `unix:///path`; raises BadInput for anything else."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "unix" and parts.path.startswith("/"):
        return VaultConnection(
            socket=Path(parts.path), role_id=role_id, secret_id=secret_id, ca=ca, namespace=namespace
        )
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not safe or not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput(
            f"{parts.scheme or 'no scheme'}://{parts.hostname or ''} is no safe address of a Vault",
            "SIGNALBOX_VAULT_ADDR is https://HOST:PORT, http://127.0.0.1:PORT or unix:///PATH",
        )
    url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return VaultConnection(url=url, role_id=role_id, secret_id=secret_id, ca=ca, namespace=namespace)


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.settimeout(self.timeout if isinstance(self.timeout, int | float) else 2)
        try:
            end.connect(self._path)
        except OSError as error:
            end.close()
            raise urllib3.exceptions.NewConnectionError(self, f"{self._path}: {error}") from None
        return end


class _UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        self.num_connections += 1
        return _UnixConnection(self._path)


class _UnixAdapter(requests.adapters.HTTPAdapter):
    """HTTP over a unix socket: no port that a guest or another user of the machine could reach."""

    def __init__(self, path: str) -> None:
        self._pool = _UnixPool(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_: object, **__: object) -> urllib3.HTTPConnectionPool:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, *_: object, **__: object) -> str:
        return request.path_url

    def close(self) -> None:
        self._pool.close()
        super().close()
