"""For a process that drives no runs: it hands out no secret and holds none, but still masks what people write."""

from __future__ import annotations

from collections.abc import Collection

from engine.domain.errors import Refused
from engine.domain.ports import OpenGrant
from engine.domain.runbook import SecretRef
from engine.secrets.redact import Redactor


class Nothing:
    """Implements `engine.domain.ports.Secrets` without a Vault."""

    def __init__(self) -> None:
        self._redactor = Redactor()

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> OpenGrant:
        """Raises Refused, always."""
        del run_id, attempt_id, refs, timeout_s
        raise Refused(f"{leg} of {runbook} wants secrets in a process that drives no runs", "run: signalbox worker")

    def redactor(self) -> Redactor:
        """Knows what it was told, and the patterns."""
        return self._redactor

    def revoke_run(self, run_id: str) -> None:
        """Nothing was minted here."""

    def recover(self, accessors: Collection[str]) -> None:
        """Raises Refused: who mints is who revokes."""
        del accessors
        raise Refused("this process has no Vault", "run: signalbox worker")

    def reachable(self) -> None:
        """Nothing to reach."""
