"""One conversation with a Vault or OpenBao: requests, retries, and errors in the words of `engine.domain.errors`.

The only module that knows hvac. `broker` (tokens and reads) and `admin` (policies and values) speak through it.
Bodies and tokens never reach an error: the domain's error is raised outside the `except`, so it carries no context.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import requests
import urllib3.exceptions
from hvac import adapters, exceptions

from engine.domain.errors import Refused, SignalboxError, Unavailable
from engine.domain.ports import Clock
from engine.secrets.connection import VaultConnection

_TIMEOUT = (2, 5)
""" Seconds to connect, seconds to answer. hvac's own default is 30. """
_TRIES = 4
_PAUSE_S = 0.3

_Object = dict[str, Any]
""" A JSON object of Vault. """


class Denied(Refused):
    """403: the token may not do this, or is dead."""


class Missing(Refused):
    """404: no such secret, version, policy."""


class Rejected(Refused):
    """400: Vault does not accept the request as it is."""


class NoAnswer(Unavailable):
    """Nothing came back. `begun`: the request was sent, so it may have been carried out."""

    def __init__(self, message: str, remedy: str, *, begun: bool) -> None:
        super().__init__(message, remedy)
        self.begun = begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as Vault made it. `lasts_s` from now; `uses` 0 is without limit."""

    token: str = field(repr=False)
    accessor: str
    policies: frozenset[str]
    lasts_s: int
    renewable: bool
    orphan: bool
    uses: int
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One served read: `request_id` is the one in Vault's audit log."""

    request_id: str
    data: Mapping[str, object] = field(repr=False)


class Vault:
    """A conversation, for one thread, in a `with` statement."""

    def __init__(self, connection: VaultConnection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._session = connection.session()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.close()

    # -- what anybody may ask

    def health(self) -> _Object:
        """https://openbao.org/api-docs/system/health/ : sealed, standby, version, server_time_utc (seconds)."""
        codes = "&".join(f"{state}code=200" for state in ("standby", "sealed", "uninit", "perfstandby"))
        return self._ask("asking for its health", "get", f"sys/health?{codes}", token="", tries=1)

    def login_approle(self) -> Token:
        """Log in as the bot. A refusal is not retried: it would lock the role out."""
        body = {"role_id": self.connection.role_id, "secret_id": self.connection.secret_id}
        try:
            return _token(self._ask("logging in as the bot", "post", "auth/approle/login", token="", body=body))
        except (Denied, Rejected, Missing):
            pass
        raise Denied(
            f"{self.connection.shown} refused the bot's login",
            "make a new secret id for the role op-bot and set SIGNALBOX_VAULT_SECRET_ID (docs: external Vault)",
        )

    def login_password(self, user: str, password: str) -> Token:
        """Log in with userpass (the administrator of the embedded OpenBao)."""
        path = f"auth/userpass/login/{user}"
        return _token(self._ask(f"logging in as {user}", "post", path, token="", body={"password": password}))

    # -- tokens

    def mint(self, token: str, role: str, body: Mapping[str, object]) -> Token:
        """https://openbao.org/api-docs/auth/token/#create-token . Not repeated once it was sent: one try, one token."""
        path = f"auth/token/create/{role}"
        return _token(self._ask(f"minting a token of role {role}", "post", path, token=token, body=body, once=True))

    def lookup(self, token: str, accessor: str) -> _Object:
        """What Vault knows of this accessor's token; raises Denied, Missing or Rejected when there is none."""
        path = "auth/token/lookup-accessor"
        return _data(self._ask("looking a token up", "post", path, token=token, body={"accessor": accessor}))

    def revoke(self, token: str, accessor: str) -> None:
        """Revoke a token and its children; raises Denied, Missing or Rejected when there is none."""
        path = "auth/token/revoke-accessor"
        self._ask("revoking a token", "post", path, token=token, body={"accessor": accessor})

    def revoke_self(self, token: str) -> None:
        """Log out."""
        self._ask("logging out", "post", "auth/token/revoke-self", token=token, body={})

    def accessors(self, token: str) -> tuple[str, ...]:
        """All accessors (an administrator's right)."""
        return _keys(self._ask("listing accessors", "list", "auth/token/accessors", token=token))

    def capabilities(self, token: str, accessor: str, paths: Collection[str]) -> Mapping[str, list[str]]:
        """What the accessor's token may do on each path."""
        body = {"accessor": accessor, "paths": sorted(paths)}
        found = _data(
            self._ask("checking a token's reach", "post", "sys/capabilities-accessor", token=token, body=body)
        )
        return {path: list(found.get(path, ["unknown"])) for path in paths}

    # -- secrets and policies

    def read(self, token: str, path: str) -> Read:
        """One read. Not repeated once it was sent: uses are counted."""
        answer = self._ask(f"reading {path}", "get", path, token=token, once=True)
        return Read(request_id=str(answer.get("request_id", "")), data=_data(answer))

    def write(self, token: str, path: str, body: Mapping[str, object]) -> None:
        """Write anywhere (an administrator's right)."""
        self._ask(f"writing {path}", "post", path, token=token, body=body)

    def policy(self, token: str, name: str) -> str:
        """The text of a policy; raises Missing."""
        answer = self._ask(f"reading policy {name}", "get", f"sys/policies/acl/{name}", token=token)
        return str(_data(answer).get("policy", ""))

    def policy_names(self, token: str) -> tuple[str, ...]:
        """All policies (an administrator's right)."""
        return _keys(self._ask("listing policies", "list", "sys/policies/acl", token=token))

    def delete_policy(self, token: str, name: str) -> None:
        """Idempotent."""
        self._ask(f"deleting policy {name}", "delete", f"sys/policies/acl/{name}", token=token)

    # -- the wire

    def _ask(
        self,
        what: str,
        method: str,
        path: str,
        *,
        token: str,
        body: Mapping[str, object] | None = None,
        tries: int = _TRIES,
        once: bool = False,
    ) -> _Object:
        """One request, repeated while nobody answers. `once`: never repeated after it was sent."""
        # token="" on purpose: with None hvac would take a developer's $VAULT_TOKEN or ~/.vault-token
        adapter = adapters.JSONAdapter(
            base_uri=self.connection.base,
            token=token,
            session=self._session,
            verify=self._session.verify,
            timeout=_TIMEOUT,
            allow_redirects=False,
            namespace=self.connection.namespace,
        )
        extra = {} if body is None else {"json": dict(body)}
        for attempt in range(1, tries + 1):
            answer = _guarded(what, lambda: adapter.request(method, f"/v1/{path}", **extra))
            if not isinstance(answer, SignalboxError):
                return _object(answer, what)
            sent = isinstance(answer, NoAnswer) and answer.begun
            # an answer that is slow costs 5 s each time: ask once more, not three times
            if not isinstance(answer, NoAnswer) or attempt == tries or (sent and (once or attempt > 1)):
                raise answer
            self._clock.sleep(_PAUSE_S * 2**attempt * random.uniform(0.5, 1))  # noqa: S311  # jitter, not a secret
        raise AssertionError("unreachable: the last attempt returns or raises")


def _guarded(what: str, request: Callable[[], object]) -> object:
    """The answer, or (returned, not raised) the domain's error: raised here it would carry Vault's as context."""
    try:
        return request()
    except (exceptions.VaultError, requests.RequestException) as error:
        return _translated(error, what)


_REFUSALS: tuple[tuple[type[exceptions.VaultError], type[Refused], str, str], ...] = (
    (exceptions.Forbidden, Denied, "refused permission", "compare the compiled policies: signalbox secrets plan"),
    (exceptions.Unauthorized, Denied, "refused permission", "compare the compiled policies: signalbox secrets plan"),
    (exceptions.InvalidPath, Missing, "found nothing", "write the secret (signalbox secrets put) or mend the path"),
    (exceptions.InvalidRequest, Rejected, "rejected the request", "see Vault's audit log for the reason"),
)


def _translated(error: Exception, what: str) -> SignalboxError:
    if isinstance(error, requests.RequestException):
        return NoAnswer(
            f"Vault did not answer while {what} ({type(error).__name__})",
            "check that the server runs and SIGNALBOX_VAULT_ADDR is right, then retry",
            begun=_begun(error),
        )
    if isinstance(error, exceptions.VaultDown):
        return Unavailable(f"Vault is sealed (seen while {what})", "unseal Vault, then retry")
    if isinstance(error, exceptions.VaultNotInitialized):
        return Unavailable(f"Vault is not initialised (seen while {what})", "initialise Vault, then retry")
    for kind, refusal, did, remedy in _REFUSALS:
        if isinstance(error, kind):
            return refusal(f"Vault {did} while {what}", remedy)
    return Unavailable(f"Vault failed while {what} ({type(error).__name__})", "see Vault's server log, then retry")


def _begun(error: requests.RequestException) -> bool:
    """Whether the request may have reached the server."""
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError):
        return False
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return not isinstance(cause, urllib3.exceptions.NewConnectionError)


def _object(answer: object, what: str) -> _Object:
    if isinstance(answer, dict):
        return cast("_Object", answer)
    status = getattr(answer, "status_code", None)
    if status == 204:  # HTTP "no content": done
        return {}
    raise Unavailable(
        f"Vault answered {status} without an object while {what}",
        "SIGNALBOX_VAULT_ADDR must be the active node itself: redirects are not followed",
    )


def _data(answer: _Object) -> _Object:
    data = answer.get("data")
    return data if isinstance(data, dict) else {}


def _keys(answer: _Object) -> tuple[str, ...]:
    return tuple(_data(answer).get("keys") or ())


def _token(answer: _Object) -> Token:
    auth = answer.get("auth") or {}
    try:
        return Token(
            token=auth["client_token"],
            accessor=auth["accessor"],
            policies=frozenset([*(auth.get("policies") or ()), *(auth.get("identity_policies") or ())]),
            lasts_s=int(auth["lease_duration"]),
            renewable=bool(auth["renewable"]),
            orphan=bool(auth["orphan"]),
            uses=int(auth["num_uses"]),
            type=str(auth["token_type"]),
        )
    except (KeyError, TypeError, ValueError):
        pass
    raise Unavailable("Vault answered a token request without a token", "check that this address is a Vault")
