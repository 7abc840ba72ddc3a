"""What people are to be told, and where it stands in Slack."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from engine.domain.incident import Topic
from engine.store.models.base import Base, Moment
from engine.store.types import states


class Outbox(Base):
    """One thing to tell people. Rows of a lane leave in order; the same `key` is enqueued once."""

    __tablename__ = "outbox"
    __table_args__ = (sa.CheckConstraint("state in ('pending', 'sending', 'sent', 'dead')", name="state"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    lane: Mapped[str] = mapped_column(index=True)
    topic: Mapped[Topic] = mapped_column(states(Topic, "topic"))
    incident_number: Mapped[int] = mapped_column(sa.ForeignKey("incident.number"), index=True)
    subject: Mapped[str]
    priority: Mapped[int]
    state: Mapped[str] = mapped_column(default="pending", index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    ambiguous: Mapped[bool] = mapped_column(default=False)
    not_before: Moment
    created_at: Moment
    error: Mapped[str] = mapped_column(default="")


class MessageReference(Base):
    """Where a message (or channel) lives in Slack, by our key. Used by the bot's side of the service only."""

    __tablename__ = "message_ref"

    key: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(index=True)
    ts: Mapped[str]


class Seen(Base):
    """A click, command or submission that was there already: Slack may send each more than once."""

    __tablename__ = "seen"

    key: Mapped[str] = mapped_column(primary_key=True)
    at: Moment
