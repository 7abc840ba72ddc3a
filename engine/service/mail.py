"""What only the bot's side uses: the outbox, references to messages, clicks that were there already."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from engine.domain.incident import MessageRef, OutboxItem
from engine.orchestration.adapters import Adapters
from engine.store import outbox
from engine.store.session import Database

LEASE = timedelta(seconds=60)
""" Longer than a sender works on a row (`bot.slack.sender`). """


class Mail:
    """Slack's own tables, each call one transaction."""

    _database: Database
    _adapters: Adapters

    def outbox_due(self, limit: int = 20) -> tuple[OutboxItem, ...]:
        """Marks and returns rows to send now: the oldest of each lane, by priority. Each is ours until reported."""
        with self._database.transaction() as session:
            return outbox.due(session, self._adapters.clock.now(), limit, LEASE)

    def outbox_sent(self, item: OutboxItem, refs: Mapping[str, MessageRef]) -> None:
        """The row was carried out; `refs` are message references to keep by key."""
        with self._database.transaction() as session:
            outbox.sent(session, item)
            for key, reference in refs.items():
                outbox.keep_ref(session, key, reference)

    def outbox_later(
        self, item: OutboxItem, reason: str, delay_s: float, *, ambiguous: bool, counted: bool = True
    ) -> None:
        """Try again in `delay_s`. `counted=False` (rate limited) does not use up a try."""
        at = self._adapters.clock.now() + timedelta(seconds=delay_s)
        with self._database.transaction() as session:
            outbox.later(session, item, reason, at, ambiguous=ambiguous, counted=counted)

    def outbox_dead(self, item: OutboxItem, reason: str) -> None:
        """Give up on this row; it stays, visible on the dashboard and in `doctor`."""
        with self._database.transaction() as session:
            outbox.dead(session, item, reason)

    def outbox_recover(self) -> None:
        """At start: rows that were being sent when we died are ambiguous now.

        On a shared database another process may be sending them: there the lease says when nobody is.
        """
        if self._database.is_shared:
            return
        with self._database.transaction() as session:
            outbox.recover(session)

    def ref(self, key: str) -> MessageRef | None:
        """A kept message reference, e.g. `channel:<incident id>` (ts is empty), `card:<incident id>`."""
        with self._database.reading() as session:
            return outbox.ref(session, key)

    def refs_under(self, prefix: str) -> Mapping[str, MessageRef]:
        """The kept references whose keys begin so: what else was posted about one thing."""
        with self._database.reading() as session:
            return outbox.refs(session, prefix)

    def keep_ref(self, key: str, ref: MessageRef) -> None:
        """Keep a message reference (idempotent)."""
        with self._database.transaction() as session:
            outbox.keep_ref(session, key, ref)

    def incident_at(self, channel: str) -> int | None:
        """The number of the incident whose channel this is."""
        with self._database.reading() as session:
            key = outbox.channel_key(session, channel)
        return int(key.removeprefix("channel:")) if key else None

    def first_time(self, key: str) -> bool:
        """Record a click, command or submission by its identity; False if it was there already (Slack re-sent it)."""
        with self._database.transaction() as session:
            return outbox.first_time(session, key, self._adapters.clock.now())
