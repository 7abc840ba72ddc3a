"""What people are asked, and what they decided."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from engine.domain.states import ApprovalState, Choice, Decision
from engine.store.models.base import Base, MaybeMoment, Moment, only_one
from engine.store.types import states


class Approval(Base):
    """A question: may exactly this order be carried out? At most one in play per run.

    It is answered yes only by a row of `decision` for the same order (a trigger sees to it), and used up by one start.
    `warned_at`: people were told that it is about to expire. `agent_call_id`: the order is that one call of an agent,
    and never a change.
    """

    __tablename__ = "approval"
    __table_args__ = (
        only_one("uq_approval_live_per_run", "run_id", "state in ('pending', 'approved')"),
        sa.CheckConstraint("state not in ('approved', 'consumed') or decided_by is not null", name="named"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    leg: Mapped[str]
    agent_call_id: Mapped[str | None] = mapped_column(sa.ForeignKey("agent_call.id"))
    state: Mapped[ApprovalState] = mapped_column(states(ApprovalState, "state"))
    token: Mapped[str] = mapped_column(unique=True)
    content_digest: Mapped[str]
    order_digest: Mapped[str]
    lines: Mapped[dict[str, Any]]
    preview: Mapped[str]
    requested_at: Moment
    expires_at: Moment
    warned_at: MaybeMoment
    decided_by: Mapped[str | None]
    decided_name: Mapped[str | None]
    decided_at: MaybeMoment
    reason: Mapped[str] = mapped_column(default="")


class Escalation(Base):
    """One halt that a person must decide. At most one open per run.

    `remind_at`: when people are asked again (a person may put it off). `expires_at`: when its buttons go and the
    question is put anew, to everyone who may decide.
    """

    __tablename__ = "escalation"
    __table_args__ = (
        only_one("uq_escalation_open_per_run", "run_id", "decided is null and expired_at is null"),
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
    remind_at: MaybeMoment
    reminders: Mapped[int] = mapped_column(default=0)
    expires_at: MaybeMoment
    expired_at: MaybeMoment
    decided: Mapped[Decision | None] = mapped_column(states(Decision, "decided"))
    decided_by: Mapped[str | None]
    decided_name: Mapped[str | None]
    decided_at: MaybeMoment
    reason: Mapped[str] = mapped_column(default="")


class PersonDecision(Base):
    """What a named person chose, never changed afterwards. On Postgres only the bot's role may insert one."""

    __tablename__ = "decision"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    approval_id: Mapped[str | None] = mapped_column(sa.ForeignKey("approval.id"), index=True)
    escalation_id: Mapped[str | None] = mapped_column(sa.ForeignKey("escalation.id"), index=True)
    choice: Mapped[Choice] = mapped_column(states(Choice, "choice"))
    order_digest: Mapped[str | None]
    by: Mapped[str]
    by_name: Mapped[str]
    at: Moment
    reason: Mapped[str]


class Activation(Base):
    """Each time that an edition of a runbook was activated, or deactivated; the newest row of a runbook counts. Never
    changed afterwards. `files`: path -> base64. On Postgres only the owner of the tables inserts one."""

    __tablename__ = "activation"

    id: Mapped[int] = mapped_column(primary_key=True)
    runbook: Mapped[str] = mapped_column(index=True)
    on: Mapped[bool]
    digest: Mapped[str]
    source: Mapped[str]
    files: Mapped[dict[str, Any]]
    by: Mapped[str]
    by_name: Mapped[str]
    at: Moment
    reason: Mapped[str]


class KillSwitch(Base):
    """Each time that the kill switch was thrown; the newest row says how it stands. Never changed afterwards."""

    __tablename__ = "kill_switch"

    id: Mapped[int] = mapped_column(primary_key=True)
    on: Mapped[bool]
    by: Mapped[str]
    by_name: Mapped[str]
    at: Moment
    reason: Mapped[str]
