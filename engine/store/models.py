"""The tables. Invariants that must survive a bug in our code live here: CHECKs, unique and partial unique indexes,
append-only triggers (in the migrations), and the table of moves that every event of a run names by foreign key."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from engine.domain.alert import AlertStatus, Severity
from engine.domain.incident import Topic
from engine.domain.states import (
    FINAL,
    ApprovalState,
    AttemptState,
    Decision,
    IncidentState,
    RunState,
    Verdict,
)
from engine.store.types import PlainText, UtcDateTime, states

Moment = Mapped[datetime]
MaybeMoment = Mapped[datetime | None]


class Base(DeclarativeBase):
    """All tables; every constraint has a name, so that migrations can speak of it."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        datetime: UtcDateTime,
        dict[str, Any]: sa.JSON,
        list[Any]: sa.JSON,
        str: PlainText,
    }


def _only(name: str, columns: str, where: str) -> sa.Index:
    """At most one row for these columns among those that meet `where`, on both dialects."""
    clause = sa.text(where)
    return sa.Index(name, *columns.split(), unique=True, sqlite_where=clause, postgresql_where=clause)


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
    """What a channel is about. `key` is what it was opened for: at most one open incident per key."""

    __tablename__ = "incident"
    __table_args__ = (_only("uq_incident_open_key", "key", "state = 'open'"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]
    title: Mapped[str]
    severity: Mapped[Severity] = mapped_column(states(Severity, "severity"))
    state: Mapped[IncidentState] = mapped_column(states(IncidentState, "state"))
    opened_at: Moment
    closed_at: MaybeMoment
    opened_by: Mapped[str]
    choose_token: Mapped[str | None] = mapped_column(unique=True)


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


_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))


class Run(Base):
    """One journey of a runbook. `version` is the fence: a move applies only to the version that was read."""

    __tablename__ = "run"
    __table_args__ = (_only("uq_run_active_per_incident", "incident_number", f"state not in ({_FINAL})"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    incident_number: Mapped[int] = mapped_column(sa.ForeignKey("incident.number"), index=True)
    runbook: Mapped[str]
    runbook_digest: Mapped[str]
    source: Mapped[str]
    files: Mapped[dict[str, Any]]
    inputs: Mapped[dict[str, Any]]
    state: Mapped[RunState] = mapped_column(states(RunState, "state"), index=True)
    leg: Mapped[str]
    version: Mapped[int] = mapped_column(default=0)
    waits_for: Mapped[str] = mapped_column(default="")
    chosen_by: Mapped[str]
    opened_at: Moment
    deadline_at: Moment
    ended_at: MaybeMoment


class Artefact(Base):
    """The bytes of what a step produced, known by digest. Checked against it at every use."""

    __tablename__ = "artefact"

    digest: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[bytes]


class Attempt(Base):
    """One try of a step in one VM. At most one started attempt per run: no step ever runs twice at once."""

    __tablename__ = "attempt"
    __table_args__ = (_only("uq_attempt_started_per_run", "run_id", "state = 'started'"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    leg: Mapped[str]
    step: Mapped[str]
    target: Mapped[str | None]
    changes: Mapped[bool]
    idempotent: Mapped[bool]
    state: Mapped[AttemptState] = mapped_column(states(AttemptState, "state"))
    worker: Mapped[str]
    started_at: Moment
    ended_at: MaybeMoment
    content_digest: Mapped[str]
    order_digest: Mapped[str]
    uses_digest: Mapped[str | None]
    artefact_digest: Mapped[str | None] = mapped_column(sa.ForeignKey("artefact.digest"))
    reason: Mapped[str] = mapped_column(default="")
    stdout: Mapped[str] = mapped_column(default="")
    stderr: Mapped[str] = mapped_column(default="")
    output: Mapped[dict[str, Any] | None]
    connections: Mapped[list[Any]] = mapped_column(default=list)
    late: Mapped[bool] = mapped_column(default=False)


class GateVerdict(Base):
    """What one gate found, with its evidence verbatim. Never changed afterwards (append-only by trigger)."""

    __tablename__ = "verdict"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    leg: Mapped[str]
    of: Mapped[str]
    verdict: Mapped[Verdict] = mapped_column(states(Verdict, "verdict"))
    why: Mapped[str]
    checks: Mapped[list[Any]]
    begun_at: Moment
    ended_at: Moment


class Approval(Base):
    """A person's yes, bound to one order digest, consumed by one start. At most one in play per run."""

    __tablename__ = "approval"
    __table_args__ = (
        _only("uq_approval_live_per_run", "run_id", "state in ('pending', 'approved')"),
        sa.CheckConstraint("state not in ('approved', 'consumed') or decided_by is not null", name="named"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    leg: Mapped[str]
    state: Mapped[ApprovalState] = mapped_column(states(ApprovalState, "state"))
    token: Mapped[str] = mapped_column(unique=True)
    content_digest: Mapped[str]
    order_digest: Mapped[str]
    lines: Mapped[dict[str, Any]]
    preview: Mapped[str]
    requested_at: Moment
    expires_at: Moment
    decided_by: Mapped[str | None]
    decided_name: Mapped[str | None]
    decided_at: MaybeMoment
    reason: Mapped[str] = mapped_column(default="")


class Escalation(Base):
    """One halt that a person must decide. At most one undecided per run."""

    __tablename__ = "escalation"
    __table_args__ = (
        _only("uq_escalation_open_per_run", "run_id", "decided is null"),
        sa.CheckConstraint("decided is null or decided_by is not null", name="named"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    leg: Mapped[str]
    why: Mapped[str]
    remedy: Mapped[str]
    mention: Mapped[str]
    options: Mapped[list[Any]]
    token: Mapped[str] = mapped_column(unique=True)
    raised_at: Moment
    decided: Mapped[Decision | None] = mapped_column(states(Decision, "decided"))
    decided_by: Mapped[str | None]
    decided_name: Mapped[str | None]
    decided_at: MaybeMoment
    reason: Mapped[str] = mapped_column(default="")


class Move(Base):
    """The table of moves (engine.domain.states), held by the database too."""

    __tablename__ = "move"

    source: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    because: Mapped[str]


class Event(Base):
    """One append-only row: what happened, when, by whom. A move of a run names its row in the table of moves."""

    __tablename__ = "event"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["move_source", "kind", "move_target"],
            ["move.source", "move.event", "move.target"],
            name="fk_event_legal_move",
        ),
        sa.CheckConstraint("(move_source is null) = (move_target is null)", name="whole_move"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_number: Mapped[int] = mapped_column(sa.ForeignKey("incident.number"), index=True)
    run_id: Mapped[str | None] = mapped_column(sa.ForeignKey("run.id"), index=True)
    at: Moment
    kind: Mapped[str]
    actor: Mapped[str]
    move_source: Mapped[str | None]
    move_target: Mapped[str | None]
    text: Mapped[str]
    detail: Mapped[dict[str, Any]]


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


class VaultToken(Base):
    """A token that we minted, until it is proved dead. What a crashed process minted is found here."""

    __tablename__ = "vault_token"

    accessor: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(index=True)
    attempt_id: Mapped[str]
    kind: Mapped[str]
    minted_at: Moment
    revoked_at: MaybeMoment
    failure: Mapped[str] = mapped_column(default="")


class TargetLock(Base):
    """One run at a time per target that it writes or that its gates measure."""

    __tablename__ = "target_lock"

    target: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    taken_at: Moment


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
