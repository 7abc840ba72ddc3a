"""Incidents, their alerts, events, notes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.alert import Alert as AlertValue
from engine.domain.alert import AlertStatus, Severity
from engine.domain.harness import NoteDraft
from engine.domain.states import DECIDED_BY_A_PERSON, EVENT_OF_VERDICT, IncidentState
from engine.store import chain, models
from engine.store.ids import new_token

_STANDING = sa.select(models.Alert.status, models.Alert.seen_at).where(
    models.Alert.incident_number == sa.bindparam("incident")
)


def open_incident(
    session: Session, *, key: str, title: str, severity: Severity, opened_by: str, now: datetime
) -> models.Incident:
    """A new incident; the database refuses a second open one for the same key."""
    row = models.Incident(
        key=key,
        title=title,
        severity=severity,
        state=IncidentState.OPEN,
        opened_at=now,
        opened_by=opened_by,
        choose_token=new_token(),
    )
    session.add(row)
    session.flush()
    return row


def open_by_key(session: Session, key: str) -> models.Incident | None:
    """The open incident of this key."""
    query = sa.select(models.Incident).where(models.Incident.key == key, models.Incident.state == IncidentState.OPEN)
    return session.scalar(query)


def get(session: Session, number: int) -> models.Incident | None:
    """The incident of this number."""
    return session.get(models.Incident, number)


def by_choose_token(session: Session, token: str) -> models.Incident | None:
    """The incident whose runbook chooser carries this token."""
    return session.scalar(sa.select(models.Incident).where(models.Incident.choose_token == token))


def episode(session: Session, alert: AlertValue) -> models.Alert | None:
    """The stored episode of an alert: same source, fingerprint and start."""
    return session.scalar(
        sa.select(models.Alert).where(
            models.Alert.source == alert.source,
            models.Alert.fingerprint == alert.fingerprint,
            models.Alert.starts_at == alert.starts_at,
        )
    )


def add_alert(session: Session, number: int, alert: AlertValue, now: datetime) -> models.Alert:
    """A new episode."""
    row = models.Alert(
        incident_number=number,
        source=alert.source,
        fingerprint=alert.fingerprint,
        name=alert.name,
        status=alert.status,
        severity=alert.severity,
        title=alert.title,
        labels=dict(alert.labels),
        annotations=dict(alert.annotations),
        starts_at=alert.starts_at,
        ends_at=alert.ends_at,
        group_key=alert.group_key,
        link=alert.link,
        seen_at=now,
    )
    session.add(row)
    session.flush()
    return row


def resolve_alert(row: models.Alert, alert: AlertValue, now: datetime) -> bool:
    """An episode that is over stays over; False when it was already."""
    if row.status is AlertStatus.RESOLVED:
        return False
    row.status, row.ends_at, row.seen_at = AlertStatus.RESOLVED, alert.ends_at or now, now
    return True


def refire_alert(row: models.Alert, number: int, now: datetime) -> None:
    """An episode that had been taken for over is back, in this incident."""
    row.status, row.ends_at, row.seen_at, row.incident_number = AlertStatus.FIRING, None, now, number


def alerts(session: Session, number: int) -> tuple[models.Alert, ...]:
    """All episodes of an incident, oldest first."""
    query = sa.select(models.Alert).where(models.Alert.incident_number == number).order_by(models.Alert.id)
    return tuple(session.scalars(query))


def resolved_at(session: Session, number: int) -> datetime | None:
    """When the last alert of the incident was seen resolved; None while one fires or when it has none."""
    rows = session.execute(_STANDING, {"incident": number}).all()
    if not rows or any(status is AlertStatus.FIRING for status, _ in rows):
        return None
    return max(seen_at for _, seen_at in rows)


def alert_values(session: Session, number: int) -> tuple[AlertValue, ...]:
    """The incident's alerts as values, oldest first."""
    return tuple(
        AlertValue(
            source=row.source,
            fingerprint=row.fingerprint,
            name=row.name,
            status=row.status,
            severity=row.severity,
            title=row.title,
            labels=row.labels,
            annotations=row.annotations,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            group_key=row.group_key,
            link=row.link,
        )
        for row in alerts(session, number)
    )


def add_note(session: Session, *, number: int, draft: NoteDraft, patch: str) -> models.Note:
    """A harness note; never changed afterwards. Raises (IntegrityError) when another note took its id meanwhile."""
    row = models.Note(
        id=draft.id,
        incident_number=number,
        by=draft.by.id,
        by_name=draft.by.name,
        at=draft.at,
        steps=dict(draft.steps),
        what=draft.what,
        change=draft.change,
        rule=draft.rule,
        patch=patch,
    )
    session.add(row)
    session.flush()
    return row


def next_note_id(session: Session) -> int:
    """The id of the next note: names its rule and its test."""
    return (session.scalar(sa.select(sa.func.max(models.Note.id))) or 0) + 1


def kinds_since_last_verdict(session: Session, run_id: str, kinds: Collection[str]) -> tuple[str, ...]:
    """Kinds of the run's events since a gate last gave a verdict or a person decided, those asked for only."""
    ends = [*(event.value for event in EVENT_OF_VERDICT.values()), *(event.value for event in DECIDED_BY_A_PERSON)]
    chain.write(session)
    table = models.Event
    last = sa.select(sa.func.coalesce(sa.func.max(table.seq), 0)).where(table.run_id == run_id, table.kind.in_(ends))
    query = sa.select(table.kind).where(
        table.run_id == run_id, table.kind.in_(list(kinds)), table.seq > last.scalar_subquery()
    )
    return tuple(session.scalars(query.order_by(table.seq)))
