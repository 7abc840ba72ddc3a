"""The outbox: what people are to be told, enqueued in the transaction that records the fact. And Slack's references."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from engine.domain.incident import MessageRef, OutboxItem, Topic
from engine.store import models

ASKS_A_PERSON = 10
REPORTS = 50
PROGRESS = 90
OUTBOX = "outbox"

COALESCED = (Topic.CARD, Topic.FEED)
""" Rendered from what is true when they are sent: one waiting row is enough. """


_TABLE: Any = models.Outbox.__table__


def _once(insert: Any) -> Any:
    return insert.inline().on_conflict_do_update(index_elements=["key"], set_={"key": insert.excluded.key})


_ONCE = {"postgresql": _once(postgresql.insert(_TABLE)), "sqlite": _once(sqlite.insert(_TABLE))}


def tell(session: Session, topic: Topic, number: int, subject: str, key: str, priority: int, now: datetime) -> None:
    """Enqueue one thing to tell; the same key is enqueued once."""
    _collect(session, topic, number, subject, key, f"incident:{number}", priority, now)


def refresh(session: Session, number: int, now: datetime) -> None:
    """The card and the feed line show what is true when they are sent: one waiting row of each serves for all."""
    for topic in COALESCED:
        key = f"{topic.value}:{number}"
        _collect(session, topic, number, str(number), key, key, PROGRESS, now)


def _collect(
    session: Session, topic: Topic, number: int, subject: str, key: str, lane: str, priority: int, now: datetime
) -> None:
    rows: dict[str, dict[str, Any]] = session.info.setdefault(OUTBOX, {})
    rows[key] = {
        "key": key,
        "lane": lane,
        "topic": topic,
        "incident_number": number,
        "subject": subject,
        "priority": priority,
        "state": "pending",
        "attempts": 0,
        "ambiguous": False,
        "not_before": now,
        "created_at": now,
        "error": "",
    }


def write(session: Session) -> None:
    """Write what was told. Called at the end of every transaction.

    A row of the same key that waits already is locked until the commit: it must not be sent before what it would then
    show is there.
    """
    rows: dict[str, dict[str, Any]] = session.info.pop(OUTBOX, {})
    if not rows:
        return
    session.flush()
    connection = session.connection()
    connection.execute(_ONCE[connection.dialect.name], list(rows.values()))


def due(session: Session, now: datetime, limit: int, lease: timedelta) -> tuple[OutboxItem, ...]:
    """Mark and return the oldest unfinished row of each lane that may leave now, most urgent first.

    They are the caller's until the lease ends. One whose lease ended was being sent by somebody who is gone: it may
    have been carried out, so it is ambiguous.
    """
    table = models.Outbox
    unfinished = table.state.in_(["pending", "sending"])
    heads = sa.select(sa.func.min(table.id)).where(unfinished).group_by(table.lane)
    query = (
        sa.select(table)
        .where(table.id.in_(heads), unfinished, table.not_before <= now)
        .order_by(table.priority, table.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    items = []
    for row in session.scalars(query):
        row.ambiguous = row.ambiguous or row.state == "sending"
        items.append(
            OutboxItem(
                id=row.id,
                key=row.key,
                lane=row.lane,
                topic=row.topic,
                incident_id=str(row.incident_number),
                subject=row.subject,
                attempts=row.attempts,
                ambiguous=row.ambiguous,
                created_at=row.created_at,
            )
        )
        row.state, row.attempts, row.not_before = "sending", row.attempts + 1, now + lease
        if row.topic in COALESCED:  # what happens from now on needs another card
            row.key = f"{row.lane}:{row.id}"
    return tuple(items)


def sent(session: Session, item: OutboxItem) -> None:
    """The row was carried out."""
    _update(session, item, state="sent", error="")


def later(session: Session, item: OutboxItem, reason: str, at: datetime, *, ambiguous: bool, counted: bool) -> None:
    """Try the row again at a time."""
    attempts = models.Outbox.attempts if counted else models.Outbox.attempts - 1
    _update(session, item, state="pending", error=reason[:500], not_before=at, ambiguous=ambiguous, attempts=attempts)


def dead(session: Session, item: OutboxItem, reason: str) -> None:
    """Give up on the row; it stays to be seen."""
    _update(session, item, state="dead", error=reason[:500])


def _update(session: Session, item: OutboxItem, **values: object) -> None:
    session.execute(sa.update(models.Outbox).where(models.Outbox.id == item.id).values(**values))


def recover(session: Session) -> None:
    """What was being sent when the only sender died may have been carried out: ambiguous, and due at once."""
    table = models.Outbox
    again = sa.update(table).where(table.state == "sending")
    session.execute(again.values(state="pending", ambiguous=True, not_before=table.created_at))


def keys(session: Session) -> frozenset[str]:
    """The keys of everything that people were told, or will be."""
    return frozenset(session.scalars(sa.select(models.Outbox.key)))


def counts(session: Session) -> dict[str, int]:
    """Rows by state."""
    query = sa.select(models.Outbox.state, sa.func.count()).group_by(models.Outbox.state)
    return {row[0]: row[1] for row in session.execute(query)}


def ref(session: Session, key: str) -> MessageRef | None:
    """Where a message lives."""
    row = session.get(models.MessageReference, key)
    return MessageRef(channel=row.channel, ts=row.ts) if row else None


def refs(session: Session, prefix: str) -> dict[str, MessageRef]:
    """Where the messages live whose keys begin so, by key."""
    table = models.MessageReference
    rows = session.scalars(sa.select(table).where(table.key.startswith(prefix, autoescape=True)).order_by(table.key))
    return {row.key: MessageRef(channel=row.channel, ts=row.ts) for row in rows}


def keep_ref(session: Session, key: str, reference: MessageRef) -> None:
    """Remember where a message lives."""
    session.merge(models.MessageReference(key=key, channel=reference.channel, ts=reference.ts))


def channel_key(session: Session, channel: str) -> str | None:
    """The key of the channel reference with this Slack channel id."""
    query = sa.select(models.MessageReference.key).where(
        models.MessageReference.channel == channel, models.MessageReference.key.like("channel:%")
    )
    return session.scalar(query)


def first_time(session: Session, key: str, now: datetime) -> bool:
    """Record what Slack sent; False when it was there already. Old records go after a day."""
    if session.get(models.Seen, key) is not None:
        return False
    session.execute(sa.delete(models.Seen).where(models.Seen.at < now - timedelta(days=1)))
    session.add(models.Seen(key=key, at=now))
    session.flush()
    return True
