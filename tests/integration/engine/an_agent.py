"""An agent's step on the machine, for tests: what it calls, what is kept of it, and how it dies."""

from __future__ import annotations

import sqlalchemy as sa

from engine.domain.ports import TaskResult
from engine.domain.states import AttemptState, RunState
from engine.orchestration.conversation import AttemptConversation, Conversations
from engine.store import models
from tests.doubles.played_agents import FakeAgents, call
from tests.integration.engine.conftest import Box
from tests.integration.engine.test_crash import Killed

LOOK, STATUS, AFTER = call("look", "df", "/srv"), call("status", "systemctl", "status", "x"), call("after", "du")


def asking(box: Box, agents: FakeAgents) -> str:
    """Up to the question about one call; returns its token."""
    agents.asks = frozenset({"status"})
    box.fire()
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL, box.run().attempts[-1].reason
    return box.run().approvals[-1].token


def _rows(box: Box, table: type[models.Base]) -> list[models.Base]:
    with box.database.reading() as session:
        return list(session.scalars(sa.select(table)))


def talks(box: Box) -> list[models.AgentConversation]:
    """Every conversation that is kept."""
    return [row for row in _rows(box, models.AgentConversation) if isinstance(row, models.AgentConversation)]


def calls(box: Box) -> dict[str, models.AgentCall]:
    """Every call that is kept, by the id that the model gave it."""
    found = _rows(box, models.AgentCall)
    return {row.call_id: row for row in found if isinstance(row, models.AgentCall)}


def diagnoses(box: Box) -> list[AttemptState]:
    """How each attempt of the agent's step stands."""
    return [attempt.state for attempt in box.run().attempts if attempt.leg == "diagnose"]


def of_running(box: Box) -> AttemptConversation:
    """The journal of the attempt that is under way."""
    attempt = box.run().attempts[-1]
    return Conversations(box.database, box.clock).of(run_id=box.run().id, leg=attempt.leg, attempt_id=attempt.id)


def dies() -> TaskResult:
    """The worker is killed before the agent began."""
    raise Killed
