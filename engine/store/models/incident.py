"""What comes in, the incident that it is about, and its history."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from engine.domain.alert import AlertStatus, Severity
from engine.domain.states import IncidentState
from engine.store.models.base import Base, MaybeMoment, Moment, only_one
from engine.store.types import states


class Inbox(Base):
    """One authenticated body of a source, kept before anything is done with it.

    `after` is the id of the body that its group had before it (0: none, or the source has delivery ids).
    """

    __tablename__ = "inbox"
    __table_args__ = (
        sa.UniqueConstraint("source", "key", "after", name="uq_inbox_delivery"),
        sa.CheckConstraint("state in ('pending', 'done', 'rejected')", name="state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str]
    key: Mapped[str]
    group: Mapped[str | None] = mapped_column(index=True)
    after: Mapped[int] = mapped_column(default=0)
    body: Mapped[bytes]
    received_at: Moment
    state: Mapped[str] = mapped_column(default="pending", index=True)
    reason: Mapped[str] = mapped_column(default="")


class Incident(Base):
    """What a channel is about. `key` is what it was opened for: at most one open incident per key.

    `head_seq` and `head_hash`: the newest link of its chain of events (`engine.store.chain`).
    """

    __tablename__ = "incident"
    __table_args__ = (only_one("uq_incident_open_key", "key", "state = 'open'"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]
    title: Mapped[str]
    severity: Mapped[Severity] = mapped_column(states(Severity, "severity"))
    state: Mapped[IncidentState] = mapped_column(states(IncidentState, "state"))
    opened_at: Moment
    closed_at: MaybeMoment
    opened_by: Mapped[str]
    choose_token: Mapped[str | None] = mapped_column(unique=True)
    head_seq: Mapped[int] = mapped_column(default=0)
    head_hash: Mapped[str] = mapped_column(default="")


class Alert(Base):
    """One episode of one alert, as it last came."""

    __tablename__ = "alert"
    __table_args__ = (sa.UniqueConstraint("source", "fingerprint", "starts_at", name="uq_alert_episode"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_number: Mapped[int] = mapped_column(sa.ForeignKey("incident.number"), index=True)
    source: Mapped[str]
    fingerprint: Mapped[str]
    name: Mapped[str]
    status: Mapped[AlertStatus] = mapped_column(states(AlertStatus, "status"))
    severity: Mapped[Severity] = mapped_column(states(Severity, "severity"))
    title: Mapped[str]
    labels: Mapped[dict[str, Any]]
    annotations: Mapped[dict[str, Any]]
    starts_at: Moment
    ends_at: MaybeMoment
    group_key: Mapped[str]
    link: Mapped[str | None]
    seen_at: Moment


class Event(Base):
    """One append-only row: what happened, when, by whom. A move of a run names its row in the table of moves.

    `seq` counts an incident's events from 1; `hash` covers the row and the hash before it (`engine.domain.chain`).
    """

    __tablename__ = "event"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["move_source", "kind", "move_target"],
            ["move.source", "move.event", "move.target"],
            name="fk_event_legal_move",
        ),
        sa.Index("uq_event_link", "incident_number", "seq", unique=True),
        sa.CheckConstraint("(move_source is null) = (move_target is null)", name="whole_move"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_number: Mapped[int] = mapped_column(sa.ForeignKey("incident.number"), index=True)
    run_id: Mapped[str | None] = mapped_column(sa.ForeignKey("run.id"), index=True)
    seq: Mapped[int]
    hash: Mapped[str]
    at: Moment
    kind: Mapped[str]
    actor: Mapped[str]
    move_source: Mapped[str | None]
    move_target: Mapped[str | None]
    text: Mapped[str]
    detail: Mapped[dict[str, Any]]


class Note(Base):
    """A harness note and the patch that came of it."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_number: Mapped[int] = mapped_column(sa.ForeignKey("incident.number"), index=True)
    by: Mapped[str]
    by_name: Mapped[str]
    at: Moment
    steps: Mapped[dict[str, Any]]
    what: Mapped[str]
    change: Mapped[str]
    rule: Mapped[str]
    patch: Mapped[str]
