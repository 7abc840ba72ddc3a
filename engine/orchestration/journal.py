"""The journal of secrets: each act in its own transaction, so a crash leaves no token that nobody knows of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from engine.coordination.machine import MACHINE
from engine.domain.ports import Clock
from engine.store import chain, runs, tokens
from engine.store.session import Database, Session


@dataclass(frozen=True, slots=True)
class Journal:
    """Implements `engine.domain.ports.SecretJournal` on the database."""

    database: Database
    clock: Clock

    def minting(self, *, run_id: str, attempt_id: str, policy: str, paths: Collection[str]) -> None:
        """A token is about to be asked for."""
        with self.database.transaction() as session:
            text = f"Minting a token for {attempt_id} under policy {policy}."
            self._event(session, run_id, "secret_minting", text, attempt=attempt_id, paths=sorted(paths))

    def minted(self, *, run_id: str, attempt_id: str, kind: str, accessor: str) -> None:
        """A token was born; whoever finds it in the table must see it dead."""
        with self.database.transaction() as session:
            now = self.clock.now()
            tokens.minted(session, accessor=accessor, run_id=run_id, attempt_id=attempt_id, kind=kind, now=now)
            text = f"A {kind} token was minted."
            self._event(session, run_id, "secret_minted", text, attempt=attempt_id, accessor=accessor)

    def read(self, *, run_id: str, attempt_id: str, name: str, path: str, request_id: str) -> None:
        """A declared secret was read by the host."""
        with self.database.transaction() as session:
            text = f"Secret {name} was read for {attempt_id}."
            self._event(session, run_id, "secret_read", text, attempt=attempt_id, path=path, request_id=request_id)

    def revoked(self, *, accessor: str) -> None:
        """A token was proved dead."""
        with self.database.transaction() as session:
            run_id = tokens.revoked(session, accessor, self.clock.now())
            if run_id is not None:
                text = "A token was revoked and proved dead."
                self._event(session, run_id, "secret_revoked", text, accessor=accessor)

    def revoke_failed(self, *, accessor: str, reason: str) -> None:
        """A token could not be proved dead: it is tried again, and people can see it."""
        with self.database.transaction() as session:
            run_id = tokens.failed(session, accessor, reason)
            if run_id is not None:
                text = f"A token could not be proved dead yet: {reason}"
                self._event(session, run_id, "secret_revoke_failed", text, accessor=accessor)

    def _event(self, session: Session, run_id: str, kind: str, text: str, **detail: Any) -> None:
        run = runs.get(session, run_id)
        chain.append(
            session,
            number=run.incident_number,
            run_id=run_id,
            at=self.clock.now(),
            kind=kind,
            actor=MACHINE,
            text=text,
            detail=detail,
        )
