"""The bot's own login, and what it may do with it: mint run tokens, look after tokens, prove them dead.

Used by `broker` and `checkup`. The login is renewed by logging in again at two thirds of its life, and once more when
Vault no longer knows it (it was restored, or somebody revoked us): no restart is ever needed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from engine.domain.errors import Refused
from engine.domain.ports import Clock
from engine.secrets.connection import VaultConnection
from engine.secrets.vault import Denied, Missing, Rejected, Token, Vault

_T = TypeVar("_T")

_GONE = (Denied, Missing, Rejected)
""" What Vault answers about an accessor that is no more; Denied could also mean that we are not allowed to ask. """
_LOOKS = 20
_PAUSE_S = 0.1


class Bot:
    """The bot's identity at one Vault. Thread-safe."""

    def __init__(self, connection: VaultConnection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._login: Token | None = None
        self._renew_at: datetime | None = None

    def login(self, vault: Vault, *, instead_of: Token | None = None) -> Token:
        """The login in force; a new one when it is old, or is `instead_of`. Raises Denied, Unavailable."""
        with self._lock:
            old = self._login
            if old is not None and old is not instead_of and self._renew_at and self._clock.now() < self._renew_at:
                return old
            fresh = vault.login_approle()
            self._login = fresh
            self._renew_at = self._clock.now() + timedelta(seconds=fresh.lasts_s * 2 / 3)
        if old is not None:
            self._drop(vault, fresh, old)
        return fresh

    def call(self, vault: Vault, request: Callable[[str], _T]) -> _T:
        """Ask with the bot's token; when refused although we may, log in anew and ask once more."""
        login = self.login(vault)
        try:
            return request(login.token)
        except Denied:
            if self._knows(vault, login):
                raise
        return request(self.login(vault, instead_of=login).token)

    def alive(self, vault: Vault, accessor: str) -> bool:
        """Whether a token lives; False only when proved. Raises Refused when Vault does not let us look."""
        login = self.login(vault)
        for _ in range(2):
            try:
                vault.lookup(login.token, accessor)
            except _GONE:
                # a refusal proves death only while the same question about a living token (our own) is answered
                if self._knows(vault, login):
                    return False
            else:
                return True
            login = self.login(vault, instead_of=login)
        raise Refused("the bot may not look tokens up", "apply the bot's policy again: signalbox secrets setup")

    def revoke(self, vault: Vault, accessor: str) -> None:
        """Revoke a token with its children and prove it dead, which it may be already. Raises Refused, Unavailable."""
        for _ in range(_LOOKS):
            with contextlib.suppress(*_GONE):  # dead already, or we may not: the look-up tells
                self.call(vault, lambda own: vault.revoke(own, accessor))
            if not self.alive(vault, accessor):
                return
            # a token that ran out of uses is taken down in the background, within some 30 ms
            self._clock.sleep(_PAUSE_S)
        raise Refused(f"the token with accessor {accessor} still lives after it was revoked", "revoke it by hand")

    def log_out(self, vault: Vault) -> None:
        """Revoke our own login, if there is one."""
        with self._lock:
            old, self._login = self._login, None
        if old is not None:
            self._drop(vault, old, old)

    def _knows(self, vault: Vault, login: Token) -> bool:
        try:
            vault.lookup(login.token, login.accessor)
        except _GONE:
            return False
        return True

    def _drop(self, vault: Vault, asking: Token, old: Token) -> None:
        with contextlib.suppress(*_GONE):  # it had ended by itself
            vault.revoke(asking.token, old.accessor)
