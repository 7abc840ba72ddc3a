"""From a kept body to alerts, incidents and runs: one body, one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from engine.coordination import machine
from engine.coordination.activation import must_be_activated
from engine.coordination.closing import close_if_over
from engine.coordination.opening import open_run
from engine.domain.alert import Alert, AlertStatus
from engine.domain.errors import BadInput, Refused
from engine.domain.incident import Topic
from engine.domain.ports import RunbookShelf, Trigger
from engine.domain.records import said
from engine.domain.runbook import Snapshot
from engine.domain.states import IncidentState
from engine.store import chain, evidence, inbox, incidents, models, outbox, runs
from engine.store.session import Session


def work_off(
    session: Session,
    row: models.Inbox,
    triggers: Mapping[str, Trigger],
    shelf: RunbookShelf,
    now: datetime,
    *,
    only_activated: bool = False,
) -> None:
    """Bring in what a kept body says. One that makes no sense stays, with its reason."""
    trigger = triggers.get(row.source)
    if trigger is None:
        inbox.reject(row, f"no trigger for source {row.source!r} is configured any more")
        return
    try:
        alerts = trigger.parse(row.body)
    except BadInput as error:
        inbox.reject(row, str(error))
        return
    for alert in alerts:
        take(session, alert, shelf, now, only_activated=only_activated)
    inbox.done(row)


def set_aside(session: Session, row_id: int, reason: str) -> None:
    """This body broke whoever worked on it: it stays, with its reason, and the next one has its turn."""
    row = inbox.pending(session, row_id)
    if row is not None:
        inbox.reject(row, reason)


def take(session: Session, alert: Alert, shelf: RunbookShelf, now: datetime, *, only_activated: bool = False) -> None:
    """Bring one alert in: a known episode is updated, a new firing one opens an incident or joins the open one.

    `only_activated`: no runbook starts but as it was activated.
    """
    known = incidents.episode(session, alert)
    if alert.status is AlertStatus.RESOLVED:
        if known is not None and incidents.resolve_alert(known, alert, now):
            _resolved(session, known, now)
        return  # one that we never heard of firing has nothing to end
    if known is not None and _is_ours_already(session, known, now):
        return
    key = f"{alert.source}:{alert.group_key}"
    incident = incidents.open_by_key(session, key)
    if incident is not None:
        _add(session, incident.number, known, alert, now)
        _event(session, incident.number, now, "alert_joined", f"{alert.title} joined.", tell=True)
        if not runs.of_incident(session, incident.number) and incident.opened_by == alert.source:
            _start(session, incident, alert, shelf, now, only_activated=only_activated)
        outbox.refresh(session, incident.number, now)
        return
    incident = incidents.open_incident(
        session,
        key=key,
        title=alert.title[:200],
        severity=alert.severity,
        opened_by=alert.source,
        now=now,
    )
    _add(session, incident.number, known, alert, now)
    opened = said(evidence.incident(incident))
    _event(session, incident.number, now, "incident_opened", f"{alert.source}: {alert.title}", opened)
    outbox.refresh(session, incident.number, now)
    _start(session, incident, alert, shelf, now, only_activated=only_activated)


def _is_ours_already(session: Session, known: models.Alert, now: datetime) -> bool:
    """An episode of an open incident, which may have lapsed and be back; False when its incident is closed."""
    incident = incidents.get(session, known.incident_number)
    if incident is None or incident.state is IncidentState.CLOSED:
        return False
    if known.status is AlertStatus.FIRING:
        return True
    incidents.refire_alert(known, incident.number, now)
    _event(session, incident.number, now, "alert_fired_again", f"{known.title} fires again.", tell=True)
    outbox.refresh(session, incident.number, now)
    return True


def _add(session: Session, number: int, known: models.Alert | None, alert: Alert, now: datetime) -> None:
    """A new episode, or one that lapsed with an incident that is closed now."""
    if known is None:
        incidents.add_alert(session, number, alert, now)
    else:
        incidents.refire_alert(known, number, now)


def _start(
    session: Session,
    incident: models.Incident,
    alert: Alert,
    shelf: RunbookShelf,
    now: datetime,
    *,
    only_activated: bool,
) -> None:
    """Open the run of the one runbook that takes this alert; otherwise say why a person must act."""
    ready: list[Snapshot] = []
    refused: list[str] = []
    for name in shelf.matching(alert):
        try:
            snapshot = shelf.read(name)
            if only_activated:
                must_be_activated(session, snapshot)
        except (BadInput, Refused) as error:
            refused.append(f"Nothing was started: {error}. To do: {error.remedy}.")
        else:
            ready.append(snapshot)
    if len(ready) == 1:
        try:
            open_run(session, incident, ready[0], alert, chosen_by=machine.MACHINE, now=now)
        except BadInput as error:
            _event(session, incident.number, now, "runbook_refused", f"{ready[0].runbook.name}: {error}")
        return
    for text in refused if not ready else []:
        _event(session, incident.number, now, "runbook_not_activated", text, tell=True)
    if ready or not refused:
        names = ", ".join(snapshot.runbook.name for snapshot in ready)
        text = f"Several runbooks take this alert: {names}" if ready else "No runbook takes this alert"
        _event(session, incident.number, now, "runbook_not_found", f"{text}; a person may choose one.")


def _resolved(session: Session, row: models.Alert, now: datetime) -> None:
    _event(session, row.incident_number, now, "alert_resolved", f"{row.source} says it is over: {row.title}", tell=True)
    outbox.refresh(session, row.incident_number, now)
    close_if_over(session, row.incident_number, now)


def _event(
    session: Session,
    number: int,
    now: datetime,
    kind: str,
    text: str,
    detail: Mapping[str, str] | None = None,
    *,
    tell: bool = False,
) -> None:
    actor = machine.MACHINE
    seq = chain.append(session, number=number, run_id=None, at=now, kind=kind, actor=actor, text=text, detail=detail)
    if tell:
        key = f"event:{number}:{seq}"
        outbox.tell(session, Topic.ALERT_CHANGED, number, str(seq), key, outbox.REPORTS, now)
