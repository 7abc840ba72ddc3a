"""The journal of agents: each act in its own transaction, so that a crash forgets neither a call nor what was used.

Only the attempt that is under way writes: one whose worker was thought dead can neither spend nor begin a call any
more, for another may go on with the same conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.coordination import calls, standing
from engine.coordination.machine import MACHINE
from engine.domain.agent import CallRecord, CallState, Conversation, ToolCall, Usage
from engine.domain.errors import Conflict, Refused, Unavailable
from engine.domain.journey import plan
from engine.domain.ports import Clock
from engine.domain.runbook import Snapshot
from engine.domain.standing import Standing
from engine.domain.states import ApprovalState
from engine.store import chain, conversations, models, runs
from engine.store.session import Database, Session

MOST_MESSAGES = 16_000_000
KEPT_ANSWER = 100_000
REFUSALS_TOLD = 20
""" More in one run are in the transcripts only: history is not for an agent to fill. """
SAID_NO = frozenset({ApprovalState.REJECTED, ApprovalState.EXPIRED, ApprovalState.VOIDED})


@dataclass(frozen=True, slots=True)
class Conversations:
    """Conversations of agents, on a database."""

    database: Database
    clock: Clock

    def standing(self, run_id: str, snapshot: Snapshot) -> Standing:
        """Where a run stands, for whoever asks from its VM. Raises Unavailable, Conflict."""
        with self.database.reading() as session:
            return standing.of_run(runs.get(session, run_id), plan(snapshot.runbook))

    def of(self, *, run_id: str, leg: str, attempt_id: str) -> AttemptConversation:
        """The one that this attempt begins or goes on with."""
        return AttemptConversation(self.database, self.clock, run_id, leg, attempt_id)


@dataclass(frozen=True, slots=True)
class AttemptConversation:
    """Implements `engine.domain.agent.ConversationJournal` for one attempt.

    Every method raises Unavailable when it could not be kept, or this attempt was given up; Refused for a call that was
    made before, or that is not the one a person said yes to.
    """

    database: Database
    clock: Clock
    run_id: str
    leg: str
    attempt_id: str

    def so_far(self) -> Conversation:
        """What earlier attempts left; a new conversation if there is none to go on with."""
        with self._ours() as session:
            self._must_be_under_way(session)
            row = conversations.open_one(session, self.run_id, self.leg)
            if row is None:
                now = self.clock.now()
                row = conversations.begin(
                    session, attempt_id=self.attempt_id, run_id=self.run_id, leg=self.leg, now=now
                )
            answers = conversations.answers(session, row.id)
            return Conversation(
                messages=row.messages,
                usage=Usage(requests=row.requests, tokens=row.tokens, microdollars=row.microdollars),
                calls=tuple(map(_record, conversations.calls(session, row.id))),
                allowed=frozenset(name for name, state in answers.items() if state is ApprovalState.CONSUMED),
                denied=frozenset(name for name, state in answers.items() if state in SAID_NO),
                worked_s=conversations.worked_s(session, row),
            )

    def said(self, messages: bytes) -> None:
        """Keep the whole conversation as it is now."""
        if len(messages) > MOST_MESSAGES:
            raise Unavailable(f"the conversation is longer than {MOST_MESSAGES:,} bytes, which is all that is kept")
        with self._ours() as session:
            self._row(session).messages = messages

    def spend(self, usage: Usage) -> Usage:
        """Add, and return the sum."""
        with self._ours() as session:
            return conversations.spend(session, self._row(session).id, usage)

    def begin(self, call: ToolCall) -> None:
        """The call is about to be made: once, and after a yes if a person was asked."""
        with self._ours() as session:
            talk, now = self._row(session), self.clock.now()
            row = conversations.find_call(session, talk.id, call.id)
            if row is None:
                conversations.add_call(session, talk.id, call, CallState.BEGUN, now)
                return
            if row.state is not CallState.ASKED:
                raise Refused(f"the call {call.id[:80]} was there before ({row.state}): it is not made again")
            if (row.tool, row.args) != (call.tool, dict(call.args)):
                raise Refused(f"the call {call.id[:80]} is not the one that a person was asked about")
            self._must_be_allowed(session, row)
            row.state, row.begun_at = CallState.BEGUN, now

    def end(self, call: ToolCall, state: CallState, answer: str) -> None:
        """Keep what came of it. Refused calls are told to people too, as long as they are few."""
        with self._ours() as session:
            # before any other row, as a boundary does: two that lock in different orders wait for one another
            run = runs.lock(session, self.run_id).run if state is CallState.REFUSED else None
            talk, now = self._row(session), self.clock.now()
            row = conversations.find_call(session, talk.id, call.id)
            if run is not None:
                self._tell_refusal(session, run, call, answer)
            if row is None:
                conversations.add_call(session, talk.id, call, state, now, answer[:KEPT_ANSWER])
            elif row.state in {CallState.DONE, CallState.REFUSED}:
                if state is not CallState.REFUSED:  # an id that was used before: the refusal is told, the row stays
                    raise Refused(f"the call {call.id[:80]} ended before")
            else:
                row.state, row.answer = state, answer[:KEPT_ANSWER]
                row.ended_at = None if state is CallState.ASKED else now

    # -- within

    @contextmanager
    def _ours(self) -> Iterator[Session]:
        """A transaction, and its errors in the words of the port."""
        try:
            with self.database.transaction() as session:
                yield session
        except Conflict as error:
            raise Unavailable(f"the conversation could not be kept: {error}") from error

    def _must_be_under_way(self, session: Session) -> None:
        """It stays so until the transaction ends."""
        if not conversations.is_under_way(session, self.attempt_id):
            raise Unavailable("this attempt was given up: nothing of it is kept any more")

    def _row(self, session: Session) -> models.AgentConversation:
        self._must_be_under_way(session)
        row = conversations.open_one(session, self.run_id, self.leg)
        if row is None:
            raise Unavailable("this conversation is closed, or was not begun")
        return row

    def _must_be_allowed(self, session: Session, row: models.AgentCall) -> None:
        """A yes that outlived the attempt which used it is to the order that people saw, and to no other."""
        yes = conversations.last_question(session, row.id)
        if yes is None or yes.state is not ApprovalState.CONSUMED:
            raise Refused(f"nobody said yes to the call {row.call_id[:80]}")
        attempt = runs.get_attempt(session, self.run_id, self.attempt_id)
        if yes.order_digest != calls.digest_of(attempt.order_digest, row):
            raise Refused(
                f"the order (target, grants, inputs, image) that a person said yes to for the call {row.call_id[:80]} "
                "is not the one that is made now",
                "retry asks anew",
            )

    def _tell_refusal(self, session: Session, run: models.Run, call: ToolCall, why: str) -> None:
        if conversations.refusals_told(session, run.id) >= REFUSALS_TOLD:
            return
        chain.append(
            session,
            number=run.incident_number,
            run_id=run.id,
            at=self.clock.now(),
            kind=conversations.REFUSAL,
            actor=MACHINE,
            text=f"{self.leg}: a call of {call.tool} was refused: {why[:500]}",
            detail={"attempt": self.attempt_id, "call": call.id[:80], "tool": call.tool.value},
        )


def _record(row: models.AgentCall) -> CallRecord:
    call = ToolCall(id=row.call_id, tool=row.tool, args=row.args)
    return CallRecord(call=call, state=row.state, order=row.order, answer=row.answer)
