"""From a kept body to alerts, incidents and runs: one body, one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from engine.coordination import machine
from engine.coordination.closing import close_if_over
from engine.coordination.opening import open_run
from engine.domain.alert import Alert, AlertStatus
from engine.domain.errors import BadInput
from engine.domain.incident import Topic
from engine.domain.ports import RunbookShelf, Trigger
from engine.store import inbox, incidents, models, outbox
from engine.store.session import Session


def drain_one(session: Session, triggers: Mapping[str, Trigger], shelf: RunbookShelf, now: datetime) -> bool:
    """Work on the oldest kept body; False when there is none. A body that makes no sense stays, with its reason."""
    row = inbox.oldest_pending(session)
    if row is None:
        return False
    try:
        alerts = triggers[row.source].parse(row.body)
    except BadInput as error:
        inbox.reject(row, str(error))
        return True
    except KeyError:
        inbox.reject(row, f"no trigger for source {row.source!r} is configured any more")
        return True
    for alert in alerts:
        take(session, alert, shelf, now)
    inbox.done(row)
    return True


def take(session: Session, alert: Alert, shelf: RunbookShelf, now: datetime) -> None:
    """Bring one alert in: a known episode is updated, a new firing one opens an incident or joins the open one."""
    known = incidents.episode(session, alert)
    if known is not None:
        if alert.status is AlertStatus.RESOLVED and incidents.resolve_alert(known, alert, now):
            _resolved(session, known, now)
        return
    if alert.status is AlertStatus.RESOLVED:
        return  # we never heard of it firing: there is nothing to end
    key = f"{alert.source}:{alert.group_key}"
    incident = incidents.open_by_key(session, key)
    if incident is not None:
        incidents.add_alert(session, incident.number, alert, now)
        _event(session, incident.number, now, "alert_joined", f"{alert.title} joined.", tell=True)
        return
    incident = incidents.open_incident(
        session,
        key=key,
        title=alert.title[:200],
        severity=alert.severity,
        opened_by=alert.source,
        now=now,
    )
    incidents.add_alert(session, incident.number, alert, now)
    _event(session, incident.number, now, "incident_opened", f"{alert.source}: {alert.title}")
    machine.refresh(session, incident.number, now)
    _start(session, incident, alert, shelf, now)


def _start(session: Session, incident: models.Incident, alert: Alert, shelf: RunbookShelf, now: datetime) -> None:
    """Open the run of the one runbook that takes this alert; otherwise say why a person must choose."""
    name = shelf.matching(alert)
    if name is None:
        text = "No runbook takes this alert; a person may choose one."
        _event(session, incident.number, now, "runbook_not_found", text)
        return
    try:
        open_run(session, incident, shelf.read(name), alert, chosen_by=machine.MACHINE, now=now)
    except BadInput as error:
        _event(session, incident.number, now, "runbook_refused", f"{name}: {error}")


def _resolved(session: Session, row: models.Alert, now: datetime) -> None:
    _event(session, row.incident_number, now, "alert_resolved", f"{row.source} says it is over: {row.title}", tell=True)
    machine.refresh(session, row.incident_number, now)
    close_if_over(session, row.incident_number, now)


def _event(session: Session, number: int, now: datetime, kind: str, text: str, *, tell: bool = False) -> None:
    event = incidents.append_event(
        session, number=number, run_id=None, at=now, kind=kind, actor=machine.MACHINE, text=text
    )
    if tell:
        key = f"event:{event.id}"
        outbox.tell(session, Topic.ALERT_CHANGED, number, str(event.id), key, outbox.REPORTS, now)
