"""Read models: rows turned into what people are shown."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.incident import (
    AlertView,
    ApprovalView,
    AttemptView,
    CheckView,
    EscalationView,
    EventView,
    IncidentSummary,
    LegView,
    NoteView,
    OrderView,
    Person,
    RunView,
    VerdictView,
)
from engine.domain.journey import Journey, Leg, LegKind
from engine.domain.states import (
    FINAL,
    AttemptState,
    Choice,
    Decision,
    IncidentState,
    RunState,
    Verdict,
)
from engine.store import incidents, logs, models, questions, runs


def attempt(row: models.Attempt, printed: str = "") -> AttemptView:
    """One try of a step. `printed`: what its live log holds."""
    return AttemptView(
        id=row.id,
        leg=row.leg,
        target=row.target,
        state=row.state,
        started_at=row.started_at,
        ended_at=row.ended_at,
        reason=row.reason,
        stdout=row.stdout,
        stderr=row.stderr,
        output=row.output,
        content_digest=row.content_digest,
        artefact_digest=row.artefact_digest,
        connections=row.connections,
        printed=printed,
    )


def attempts(session: Session, run_id: str) -> tuple[AttemptView, ...]:
    """All tries of a run; with its live log each that runs, or that nobody heard the end of."""
    rows = runs.attempts(session, run_id)
    printed = logs.texts(session, [row.id for row in rows if not (row.stdout or row.stderr)])
    return tuple(attempt(row, printed.get(row.id, "")) for row in rows)


def verdict(row: models.GateVerdict) -> VerdictView:
    """What one gate found."""
    return VerdictView(
        id=row.id,
        leg=row.leg,
        of=row.of,
        verdict=row.verdict,
        why=row.why,
        checks=tuple(
            CheckView(
                check_id=check["check_id"],
                type=check["type"],
                definition=check["definition"],
                verdict=Verdict(check["verdict"]),
                why=check["why"],
                samples=check["samples"],
                independent=check["independent"],
                shadow=check.get("shadow", False),  # rows of before there were any do not say
            )
            for check in row.checks
        ),
        begun_at=row.begun_at,
        ended_at=row.ended_at,
    )


def _person(person_id: str | None, name: str | None) -> Person | None:
    return Person(id=person_id, name=name or "") if person_id else None


def _put_off_by(decisions: Sequence[models.PersonDecision], question: str) -> Person | None:
    """Who put this question off, last."""
    rows = [
        row for row in decisions if row.choice is Choice.EXTEND and question in {row.approval_id, row.escalation_id}
    ]
    return Person(id=rows[-1].by, name=rows[-1].by_name) if rows else None


def approval(
    row: models.Approval, may_approve: tuple[str, ...], decisions: Sequence[models.PersonDecision]
) -> ApprovalView:
    """One asked-for yes."""
    return ApprovalView(
        id=row.id,
        leg=row.leg,
        state=row.state,
        token=row.token,
        order=OrderView(
            content_digest=row.content_digest,
            order_digest=row.order_digest,
            lines=row.lines,
            preview=row.preview,
        ),
        requested_at=row.requested_at,
        expires_at=row.expires_at,
        decided_by=_person(row.decided_by, row.decided_name),
        decided_at=row.decided_at,
        reason=row.reason,
        may_approve=may_approve,
        extended_by=_put_off_by(decisions, row.id),
        of_a_call=row.agent_call_id is not None,
    )


def escalation(
    row: models.Escalation, may_decide: tuple[str, ...], decisions: Sequence[models.PersonDecision]
) -> EscalationView:
    """One halt that a person must decide."""
    return EscalationView(
        id=row.id,
        leg=row.leg,
        why=row.why,
        remedy=row.remedy,
        mention=row.mention,
        may_decide=may_decide,
        options=tuple(Decision(option) for option in row.options),
        token=row.token,
        raised_at=row.raised_at,
        decided=row.decided,
        decided_by=_person(row.decided_by, row.decided_name),
        decided_at=row.decided_at,
        reason=row.reason,
        remind_at=row.remind_at,
        expired_at=row.expired_at,
        at_it=_put_off_by(decisions, row.id),
    )


def alert(row: models.Alert) -> AlertView:
    """One alert as it last came."""
    return AlertView(
        source=row.source,
        name=row.name,
        status=row.status.value,
        severity=row.severity,
        title=row.title,
        labels=row.labels,
        annotations=row.annotations,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        link=row.link,
    )


def note(row: models.Note) -> NoteView:
    """A harness note."""
    return NoteView(
        id=str(row.id),
        by=Person(id=row.by, name=row.by_name),
        at=row.at,
        steps=row.steps,
        what=row.what,
        change=row.change,
        rule=row.rule,
        patch=row.patch,
    )


def events(session: Session, number: int) -> tuple[EventView, ...]:
    """The history of an incident, oldest first."""
    query = sa.select(models.Event).where(models.Event.incident_number == number).order_by(models.Event.seq)
    return tuple(
        EventView(id=row.seq, at=row.at, kind=row.kind, actor=row.actor, text=row.text, detail=row.detail)
        for row in session.scalars(query)
    )


def notes(session: Session, number: int) -> tuple[NoteView, ...]:
    """The harness notes of an incident."""
    query = sa.select(models.Note).where(models.Note.incident_number == number).order_by(models.Note.id)
    return tuple(note(row) for row in session.scalars(query))


def note_by_id(session: Session, number: int) -> NoteView | None:
    """One harness note."""
    row = session.get(models.Note, number)
    return note(row) if row else None


def legs(session: Session, run: models.Run, journey: Journey) -> tuple[LegView, ...]:
    """The legs as the card shows them: the main line, and a rollback line once it was entered."""
    tries = {row.leg: row for row in runs.attempts(session, run.id)}
    found = {row.leg: row for row in runs.verdicts(session, run.id)}
    line = list(journey.line)
    for undo in journey.rollbacks:
        if run.leg in {leg.id for leg in undo} or undo[0].id in tries:
            line.extend(undo[:-1])
    return tuple(_leg(leg, run, journey, tries.get(leg.id), found.get(leg.id)) for leg in line)


def _leg(
    leg: Leg, run: models.Run, journey: Journey, tried: models.Attempt | None, found: models.GateVerdict | None
) -> LegView:
    detail = (found.why if found else "") or (tried.reason if tried else "")
    return LegView(
        id=leg.id,
        kind=leg.kind.value,
        title=leg.id.replace(":", " · ").replace("-", " "),
        mark=_mark(leg, run, journey, tried, found),
        detail=detail,
    )


def _mark(
    leg: Leg, run: models.Run, journey: Journey, tried: models.Attempt | None, found: models.GateVerdict | None
) -> str:
    here = run.leg == leg.id
    if here and run.state in {RunState.RUNNING, RunState.JUDGING}:
        return "doing"
    if here and run.state is RunState.AWAITING_APPROVAL:
        return "waiting"
    if leg.kind is LegKind.GATE:
        return found.verdict.value if found else _unreached(run)
    if leg.kind is LegKind.ATTEMPT:
        if tried is None:
            return _unreached(run)
        if here and tried.state is AttemptState.PAUSED:
            return _unreached(run)
        return "done" if tried.state is AttemptState.FINISHED else "failed"
    passed = run.state in {RunState.COMPLETED, RunState.ROLLED_BACK} or journey.line[0].id != run.leg
    return "done" if (leg.kind is LegKind.RECEIVE and passed) or run.state is RunState.COMPLETED else _unreached(run)


def _unreached(run: models.Run) -> str:
    return "skipped" if run.state in FINAL else "todo"


def run(session: Session, row: models.Run, journey: Journey | None, approvers: tuple[str, ...]) -> RunView:
    """One run with everything that happened in it; without a journey its legs are not told."""
    decisions = questions.decisions(session, row.id)
    return RunView(
        id=row.id,
        runbook=row.runbook,
        runbook_digest=row.runbook_digest,
        state=row.state,
        leg=row.leg,
        waits_for=row.waits_for,
        started_at=row.opened_at,
        ended_at=row.ended_at,
        inputs=row.inputs,
        legs=legs(session, row, journey) if journey else (),
        attempts=attempts(session, row.id),
        verdicts=tuple(verdict(found) for found in runs.verdicts(session, row.id)),
        approvals=tuple(approval(asked, approvers, decisions) for asked in questions.approvals(session, row.id)),
        escalations=tuple(
            escalation(raised, approvers, decisions) for raised in questions.escalations(session, row.id)
        ),
    )


def summaries(session: Session, *, only_open: bool, limit: int) -> tuple[IncidentSummary, ...]:
    """One line an incident, newest first."""
    query = sa.select(models.Incident).order_by(models.Incident.number.desc()).limit(limit)
    if only_open:
        query = query.where(models.Incident.state == IncidentState.OPEN)
    return tuple(_summary(row, runs.of_incident(session, row.number)) for row in session.scalars(query))


def _summary(row: models.Incident, history: tuple[models.Run, ...]) -> IncidentSummary:
    newest = history[-1] if history else None
    return IncidentSummary(
        id=str(row.number),
        number=row.number,
        title=row.title,
        severity=row.severity,
        state=row.state,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        run_state=newest.state if newest else None,
        runbook=newest.runbook if newest else None,
        leg=newest.leg if newest else None,
        waits_for=newest.waits_for if newest else "",
    )


def alerts(session: Session, number: int) -> tuple[AlertView, ...]:
    """The alerts of an incident."""
    return tuple(alert(row) for row in incidents.alerts(session, number))


def run_counts(session: Session) -> dict[str, int]:
    """Runs by state, for metrics."""
    query = sa.select(models.Run.state, sa.func.count()).group_by(models.Run.state)
    return {row[0].value: row[1] for row in session.execute(query)}


def open_incidents(session: Session) -> int:
    """How many incidents are open."""
    return session.scalar(sa.select(sa.func.count()).where(models.Incident.state == IncidentState.OPEN)) or 0


def open_numbers(session: Session) -> tuple[int, ...]:
    """The numbers of the incidents that are open."""
    query = sa.select(models.Incident.number).where(models.Incident.state == IncidentState.OPEN)
    return tuple(session.scalars(query.order_by(models.Incident.number)))
