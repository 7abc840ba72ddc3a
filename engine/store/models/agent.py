"""What is kept of an agent's work, so that another attempt goes on with it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from engine.domain.agent import CallState, Tool
from engine.store.models.base import Base, MaybeMoment, Moment, only_one
from engine.store.types import states


class AgentConversation(Base):
    """One conversation with a model, over all attempts that go on with one another; `id` is that of the first.

    `messages`: pydantic-ai's JSON, redacted. What was used never falls to nothing by another attempt. At most one of a
    leg is open; one that is `closed_at` never goes on (triggers).
    """

    __tablename__ = "agent_conversation"
    __table_args__ = (
        only_one("uq_agent_conversation_open", "run_id leg", "closed_at is null"),
        sa.CheckConstraint("requests >= 0 and tokens >= 0 and microdollars >= 0", name="used"),
    )

    id: Mapped[str] = mapped_column(sa.ForeignKey("attempt.id"), primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    leg: Mapped[str]
    messages: Mapped[bytes] = mapped_column(default=b"")
    requests: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    tokens: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    microdollars: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    begun_at: Moment
    closed_at: MaybeMoment


class AgentCall(Base):
    """One call of a tool. `call_id` is the provider's; `order` counts from 1 as they came; `answer`: what the model was
    told.

    What is asked for never changes, and what ended stays so. One that a person was asked about begins only after their
    yes was used for it: a row of `approval` names it (triggers).
    """

    __tablename__ = "agent_call"
    __table_args__ = (
        sa.UniqueConstraint("conversation_id", "call_id", name="uq_agent_call_call_id"),
        sa.UniqueConstraint("conversation_id", "order", name="uq_agent_call_order"),
        sa.CheckConstraint("state <> 'begun' or begun_at is not null", name="begun"),
        sa.CheckConstraint("state not in ('done', 'refused') or ended_at is not null", name="ended"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    conversation_id: Mapped[str] = mapped_column(sa.ForeignKey("agent_conversation.id"), index=True)
    call_id: Mapped[str]
    order: Mapped[int]
    tool: Mapped[Tool] = mapped_column(states(Tool, "tool"))
    args: Mapped[dict[str, Any]]
    state: Mapped[CallState] = mapped_column(states(CallState, "state"))
    answer: Mapped[str] = mapped_column(default="")
    asked_at: MaybeMoment
    begun_at: MaybeMoment
    ended_at: MaybeMoment
