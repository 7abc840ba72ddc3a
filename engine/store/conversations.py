"""Conversations of agents and their calls: what another attempt goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from engine.domain.agent import CallState, ToolCall, Usage
from engine.domain.states import ApprovalState, AttemptState
from engine.store import models
from engine.store.ids import new_id
from engine.store.session import Session

REFUSAL = "agent_refused"
""" The kind of the event of a refused call. """
TALK, CALL = models.AgentConversation, models.AgentCall


def is_under_way(session: Session, attempt_id: str) -> bool:
    """Whether nobody has given this attempt up; nobody does until the transaction ends."""
    query = sa.select(models.Attempt.state).where(models.Attempt.id == attempt_id).with_for_update(read=True)
    return session.scalar(query) is AttemptState.STARTED


def open_one(session: Session, run_id: str, leg: str) -> models.AgentConversation | None:
    """The open conversation of a leg, locked."""
    query = sa.select(TALK).where(TALK.run_id == run_id, TALK.leg == leg, TALK.closed_at.is_(None))
    return session.scalar(query.with_for_update())


def begin(session: Session, *, attempt_id: str, run_id: str, leg: str, now: datetime) -> models.AgentConversation:
    """A new conversation, that of this attempt; the database refuses a second open one of the leg."""
    row = TALK(
        id=attempt_id,
        run_id=run_id,
        leg=leg,
        messages=b"",
        requests=0,
        tokens=0,
        microdollars=0,
        begun_at=now,
    )
    session.add(row)
    session.flush()
    return row


def worked_s(session: Session, talk: models.AgentConversation) -> float:
    """Seconds that attempts took which went on with it and ended; of one whose worker died, until its log's last word:
    when that was found says how long Signalbox was away, not how long anybody worked."""
    tried, log = models.Attempt, models.AttemptLog
    last_word = sa.case((tried.state == AttemptState.LOST, log.updated_at), else_=tried.ended_at)
    attempts = (
        sa.select(tried.started_at, sa.type_coerce(last_word, tried.ended_at.type))
        .outerjoin(log, log.attempt_id == tried.id)
        .where(tried.run_id == talk.run_id, tried.leg == talk.leg, tried.ended_at >= talk.begun_at)
    )
    spans = ((ended - started).total_seconds() for started, ended in session.execute(attempts) if ended is not None)
    return float(sum(max(0.0, seconds) for seconds in spans))


def close(session: Session, run_id: str, now: datetime) -> None:
    """No conversation of this run goes on: what comes next begins anew."""
    end = sa.update(TALK).where(TALK.run_id == run_id, TALK.closed_at.is_(None)).values(closed_at=now)
    session.connection().execute(end)  # not by the session: what else it holds is written once, at its end


def spend(session: Session, conversation_id: str, usage: Usage) -> Usage:
    """Add to what was used; returns the sum."""
    add = (
        sa.update(TALK)
        .where(TALK.id == conversation_id)
        .values(
            requests=TALK.requests + usage.requests,
            tokens=TALK.tokens + usage.tokens,
            microdollars=TALK.microdollars + usage.microdollars,
        )
        .returning(TALK.requests, TALK.tokens, TALK.microdollars)
        .execution_options(synchronize_session=False)
    )
    requests, tokens, microdollars = session.execute(add).one()
    return Usage(requests=requests, tokens=tokens, microdollars=microdollars)


# -- calls


def calls(session: Session, conversation_id: str) -> tuple[models.AgentCall, ...]:
    """All calls of a conversation, as they came."""
    return tuple(session.scalars(sa.select(CALL).where(CALL.conversation_id == conversation_id).order_by(CALL.order)))


def find_call(session: Session, conversation_id: str, call_id: str) -> models.AgentCall | None:
    """The call of this provider's id."""
    return session.scalar(sa.select(CALL).where(CALL.conversation_id == conversation_id, CALL.call_id == call_id))


def get_call(session: Session, agent_call_id: str) -> models.AgentCall | None:
    """The call of this id of ours."""
    return session.get(CALL, agent_call_id, populate_existing=True)


def add_call(
    session: Session, conversation_id: str, call: ToolCall, state: CallState, now: datetime, answer: str = ""
) -> models.AgentCall:
    """A call that was not there; the database refuses a second one of its id. The conversation is locked."""
    last = session.scalar(sa.select(sa.func.max(CALL.order)).where(CALL.conversation_id == conversation_id))
    row = CALL(
        id=new_id(),
        conversation_id=conversation_id,
        call_id=call.id,
        order=(last or 0) + 1,
        tool=call.tool,
        args=dict(call.args),
        state=state,
        answer=answer,
        asked_at=now if state is CallState.ASKED else None,
        begun_at=now if state is CallState.BEGUN else None,
        ended_at=now if state in {CallState.DONE, CallState.REFUSED} else None,
    )
    session.add(row)
    session.flush()
    return row


def refusals_told(session: Session, run_id: str) -> int:
    """How many events of a run speak of a refused call."""
    query = sa.select(sa.func.count()).where(models.Event.run_id == run_id, models.Event.kind == REFUSAL)
    return session.scalar(query) or 0


def last_question(session: Session, agent_call_id: str) -> models.Approval | None:
    """The newest question about a call, by our id of it."""
    query = sa.select(models.Approval).where(models.Approval.agent_call_id == agent_call_id)
    return session.scalar(query.order_by(models.Approval.requested_at.desc()).limit(1))


def answers(session: Session, conversation_id: str) -> Mapping[str, ApprovalState]:
    """What became of the question about each call that people were asked about, by the provider's id."""
    asked = (
        sa.select(CALL.call_id, models.Approval.state)
        .join(models.Approval, models.Approval.agent_call_id == CALL.id)
        .where(CALL.conversation_id == conversation_id)
        .order_by(models.Approval.requested_at)
    )
    return {call_id: state for call_id, state in session.execute(asked)}  # noqa: C416 - rows, not pairs
