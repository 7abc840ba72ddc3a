"""Everything that the database says at one moment, and what was really so outside: what the invariants are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from engine.domain.journey import Journey
from engine.domain.runbook import Runbook
from engine.domain.states import FINAL, ApprovalState, AttemptState
from engine.store import models
from engine.store.session import Database, Session
from tests.doubles.outside import Outside

Row = TypeVar("Row", bound=models.Base)
LIVE = frozenset({ApprovalState.PENDING, ApprovalState.APPROVED})


@dataclass
class Heard:
    """What people and sources were told that it was done: it must be there for ever."""

    bodies: list[str] = field(default_factory=list)
    """ Accepted (202), in the order of arrival. """

    answers: list[tuple[str, str]] = field(default_factory=list)
    """ (token of the question, choice) of clicks that were answered without an error. """

    ended: dict[str, str] = field(default_factory=dict)
    """ Id of a run, attempt or approval that was seen ended -> as what. """


@dataclass
class Seen:
    """All rows, oldest first, and the world outside."""

    now: datetime
    runbook: Runbook
    journey: Journey
    outside: Outside
    heard: Heard
    incidents: Sequence[models.Incident]
    runs: Sequence[models.Run]
    events: Sequence[models.Event]
    attempts: Sequence[models.Attempt]
    verdicts: Sequence[models.GateVerdict]
    approvals: Sequence[models.Approval]
    escalations: Sequence[models.Escalation]
    decisions: Sequence[models.PersonDecision]
    alerts: Sequence[models.Alert]
    inbox: Sequence[models.Inbox]
    locks: Sequence[models.TargetLock]
    tokens: Sequence[models.VaultToken]
    workers: Sequence[models.Worker]
    told: frozenset[str]

    def active(self) -> list[models.Run]:
        """Runs that have not ended."""
        return [run for run in self.runs if run.state not in FINAL]

    def pending(self) -> list[models.Approval]:
        """Orders that wait for a yes."""
        return [row for row in self.approvals if row.state is ApprovalState.PENDING]

    def open(self) -> list[models.Escalation]:
        """Questions that wait for a decision."""
        return [row for row in self.escalations if row.decided is None and row.expired_at is None]

    def ended(self) -> Iterator[tuple[str, str]]:
        """What does not move any more, and as what it ended."""
        yield from ((run.id, run.state.value) for run in self.runs if run.state in FINAL)
        yield from ((row.id, row.state.value) for row in self.attempts if row.state is not AttemptState.STARTED)
        yield from ((row.id, row.state.value) for row in self.approvals if row.state not in LIVE)

    def of(self, rows: Sequence[Row], run: models.Run) -> list[Row]:
        """Those of this run."""
        return [row for row in rows if getattr(row, "run_id", None) == run.id]


def look(database: Database, outside: Outside, heard: Heard) -> Seen:
    """Read it all in one transaction, and remember what ended."""
    with database.reading() as session:
        told = frozenset(session.scalars(sa.select(models.Outbox.key)))
        seen = Seen(
            now=outside.clock.now(),
            runbook=outside.runbook,
            journey=outside.journey,
            outside=outside,
            heard=heard,
            incidents=_all(session, models.Incident, models.Incident.number),
            runs=_all(session, models.Run, models.Run.opened_at),
            events=_all(session, models.Event, models.Event.id),
            attempts=_all(session, models.Attempt, models.Attempt.started_at),
            verdicts=_all(session, models.GateVerdict, models.GateVerdict.ended_at),
            approvals=_all(session, models.Approval, models.Approval.requested_at),
            escalations=_all(session, models.Escalation, models.Escalation.raised_at),
            decisions=_all(session, models.PersonDecision, models.PersonDecision.at),
            alerts=_all(session, models.Alert, models.Alert.id),
            inbox=_all(session, models.Inbox, models.Inbox.id),
            locks=_all(session, models.TargetLock, models.TargetLock.target),
            tokens=_all(session, models.VaultToken, models.VaultToken.minted_at),
            workers=_all(session, models.Worker, models.Worker.started_at),
            told=told,
        )
    for name, state in seen.ended():
        heard.ended.setdefault(name, state)
    return seen


def _all(session: Session, table: type[Row], order: sa.orm.InstrumentedAttribute[object]) -> Sequence[Row]:
    return session.scalars(sa.select(table).order_by(order)).all()
