"""Rows as the chain speaks of them (`engine.domain.records`), and all that is kept of an incident as evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer_group

from engine.domain.errors import BadInput
from engine.domain.records import (
    ApprovalRecord,
    AttemptEnd,
    AttemptStart,
    Chained,
    DecisionRecord,
    Dossier,
    IncidentRecord,
    RunRecord,
    VerdictRecord,
    in_order,
)
from engine.store import chain, models
from engine.store.types import plain

Row = TypeVar("Row", models.Attempt, models.GateVerdict, models.Approval, models.PersonDecision)


def incident(row: models.Incident) -> IncidentRecord:
    """An incident as it was opened."""
    return IncidentRecord(
        id=str(row.number),
        title=plain(row.title),
        severity=str(row.severity),
        opened_by=row.opened_by,
        opened_at=row.opened_at,
    )


def run(row: models.Run) -> RunRecord:
    """A run as it was opened."""
    return RunRecord(
        id=row.id,
        runbook=row.runbook,
        runbook_digest=row.runbook_digest,
        source=plain(row.source),
        files=row.files,
        inputs=row.inputs,
        chosen_by=row.chosen_by,
        opened_at=row.opened_at,
    )


def start(row: models.Attempt) -> AttemptStart:
    """What an attempt was to do."""
    return AttemptStart(
        id=row.id,
        run=row.run_id,
        leg=row.leg,
        step=row.step,
        target=row.target,
        changes=row.changes,
        idempotent=row.idempotent,
        worker=row.worker,
        started_at=row.started_at,
        content_digest=row.content_digest,
        order_digest=row.order_digest,
        uses_digest=row.uses_digest,
    )


def result(row: models.Attempt) -> AttemptEnd:
    """What came of an attempt. Raises ValueError for one that has not ended."""
    if row.ended_at is None:
        raise ValueError(f"attempt {row.id} has not ended")
    return AttemptEnd(
        id=row.id,
        run=row.run_id,
        state=str(row.state),
        ended_at=row.ended_at,
        reason=plain(row.reason),
        stdout=plain(row.stdout or ""),
        stderr=plain(row.stderr or ""),
        output=row.output,
        artefact_digest=row.artefact_digest,
        connections=tuple(row.connections or ()),
        late=bool(row.late),
    )


def verdict(row: models.GateVerdict) -> VerdictRecord:
    """What a gate found."""
    return VerdictRecord(
        id=row.id,
        run=row.run_id,
        leg=row.leg,
        of=row.of,
        verdict=str(row.verdict),
        why=plain(row.why),
        checks=tuple(row.checks),
        begun_at=row.begun_at,
        ended_at=row.ended_at,
        late=bool(row.late),
    )


def approval(row: models.Approval) -> ApprovalRecord:
    """What a person was asked."""
    return ApprovalRecord(
        id=row.id,
        run=row.run_id,
        leg=row.leg,
        content_digest=row.content_digest,
        order_digest=row.order_digest,
        lines=row.lines,
        preview=plain(row.preview),
        requested_at=row.requested_at,
    )


def decision(row: models.PersonDecision) -> DecisionRecord:
    """What a person chose."""
    return DecisionRecord(
        id=row.id,
        run=row.run_id,
        approval=row.approval_id,
        escalation=row.escalation_id,
        choice=str(row.choice),
        order_digest=row.order_digest,
        by=plain(row.by),
        by_name=plain(row.by_name),
        at=row.at,
        reason=plain(row.reason),
    )


def dossier(session: Session, number: int) -> Dossier:
    """All that is kept of an incident as evidence, as it stands now; raises BadInput when there is no such incident.

    The session must see one moment only (`Database.reading`), or the chain moves on under it.
    """
    about = session.get(models.Incident, number)
    if about is None:
        raise BadInput(f"there is no incident {number}", "signalbox incident list")
    events = sa.select(models.Event).where(models.Event.incident_number == number)
    query = sa.select(models.Run).where(models.Run.incident_number == number).options(undefer_group("runbook"))
    runs = session.scalars(query).all()

    def of_runs(table: type[Row]) -> Sequence[Row]:
        return session.scalars(sa.select(table).where(table.run_id.in_([row.id for row in runs]))).all()

    attempts = of_runs(models.Attempt)
    return Dossier(
        incident=incident(about),
        head=chain.head_of(about.head_seq, about.head_hash),
        events=tuple(
            Chained(chain.link_of(row), row.hash)
            for row in session.scalars(events.order_by(models.Event.seq, models.Event.id))
        ),
        runs=in_order(map(run, runs)),
        attempts=in_order(map(start, attempts)),
        results=in_order(result(row) for row in attempts if row.ended_at is not None),
        verdicts=in_order(map(verdict, of_runs(models.GateVerdict))),
        approvals=in_order(map(approval, of_runs(models.Approval))),
        decisions=in_order(map(decision, of_runs(models.PersonDecision))),
    )
