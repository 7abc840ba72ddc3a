"""The front door: what the bot and the CLI may ask of the engine. Each call is one transaction (or one read).

Synchronous; the bot crosses by `asyncio.to_thread`. Errors are those of `engine.domain.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.domain.alert import Severity
from engine.domain.incident import (
    IncidentSummary,
    IncidentView,
    MessageRef,
    NoteView,
    OutboxItem,
    Person,
)
from engine.domain.states import Decision


class Service:
    """The verbs of Signalbox."""

    # -- alerts in

    def receive(self, source: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Verify and keep one body in the inbox; True if new, False if this delivery was there already.

        Raises BadInput for an unknown source, Unauthenticated, TooLarge. Work on it begins after the commit.
        """
        raise NotImplementedError

    # -- people

    def declare(self, person: Person, title: str, severity: Severity, runbook: str | None) -> IncidentView:
        """Open an incident by hand, with or without a run. Raises BadInput (empty title, unknown runbook)."""
        raise NotImplementedError

    def choose_runbook(self, token: str, person: Person, runbook: str) -> IncidentView:
        """Start a run of this runbook for an incident that has none. Raises Conflict when one is there already."""
        raise NotImplementedError

    def approve(
        self, token: str, person: Person, *, yes: bool, reason: str = "", at: MessageRef | None = None
    ) -> IncidentView:
        """Answer an approval. Raises NotAllowed (says who may), Conflict (already decided by whom, expired, unknown
        token), Refused (the order changed since it was shown: the approval is void, and that is committed)."""
        raise NotImplementedError

    def decide(
        self, token: str, person: Person, decision: Decision, *, reason: str = "", at: MessageRef | None = None
    ) -> IncidentView:
        """Answer an escalation. Raises NotAllowed, Conflict, BadInput (a decision that is not an option here)."""
        raise NotImplementedError

    def abandon(self, number: int, person: Person, reason: str) -> IncidentView:
        """End whatever run the incident has, destroy its VM, close it. Raises NotAllowed, BadInput (no such incident)."""
        raise NotImplementedError

    def close(self, number: int, person: Person) -> IncidentView:
        """Close an incident whose run has ended. Raises Conflict while one is active."""
        raise NotImplementedError

    def note(
        self, number: int, person: Person, *, steps: Mapping[str, str], what: str, change: str, rule: str
    ) -> NoteView:
        """Write a harness note. `steps`: step id -> followed | drifted | skipped. Raises BadInput."""
        raise NotImplementedError

    # -- looking

    def incidents(self, *, only_open: bool = False, limit: int = 50) -> tuple[IncidentSummary, ...]:
        """Newest first."""
        raise NotImplementedError

    def incident(self, incident: int | str) -> IncidentView:
        """By number or by id. Raises BadInput when there is none."""
        raise NotImplementedError

    def runbooks(self) -> tuple[str, ...]:
        """Names of the runbooks that load."""
        raise NotImplementedError

    def healthy(self) -> Mapping[str, str]:
        """Name of each part that is unwell -> why. Empty when all is well."""
        raise NotImplementedError

    # -- Slack's own tables: outbox, message references, seen clicks

    def outbox_due(self, limit: int = 20) -> tuple[OutboxItem, ...]:
        """Marks and returns rows to send now: the oldest of each lane, by priority. Each is ours until reported."""
        raise NotImplementedError

    def outbox_sent(self, item: OutboxItem, refs: Mapping[str, MessageRef]) -> None:
        """The row was carried out; `refs` are message references to keep by key."""
        raise NotImplementedError

    def outbox_later(
        self, item: OutboxItem, reason: str, delay_s: float, *, ambiguous: bool, counted: bool = True
    ) -> None:
        """Try again in `delay_s`. `counted=False` (rate limited) does not use up a try."""
        raise NotImplementedError

    def outbox_dead(self, item: OutboxItem, reason: str) -> None:
        """Give up on this row; it stays, visible on the dashboard and in `doctor`."""
        raise NotImplementedError

    def outbox_recover(self) -> None:
        """At start: rows that were being sent when we died are ambiguous now."""
        raise NotImplementedError

    def ref(self, key: str) -> MessageRef | None:
        """A kept message reference, e.g. `channel:<incident id>` (ts is empty), `card:<incident id>`."""
        raise NotImplementedError

    def keep_ref(self, key: str, ref: MessageRef) -> None:
        """Keep a message reference (idempotent)."""
        raise NotImplementedError

    def incident_at(self, channel: str) -> int | None:
        """The number of the incident whose channel this is."""
        raise NotImplementedError

    def first_time(self, key: str) -> bool:
        """Record a click, command or submission by its identity; False if it was there already (Slack re-sent it)."""
        raise NotImplementedError
