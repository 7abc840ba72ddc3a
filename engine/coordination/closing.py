"""Closing an incident: when its run completed and the source agrees, or when a person says so."""

from __future__ import annotations

from datetime import datetime

from engine.coordination import machine
from engine.domain.states import IncidentState, RunState
from engine.store import chain, incidents, models, outbox, runs
from engine.store.session import Session


def close(session: Session, incident: models.Incident, now: datetime, *, actor: str, text: str) -> None:
    """Close an open incident; does nothing when it is closed already."""
    if incident.state is IncidentState.CLOSED:
        return
    incident.state, incident.closed_at = IncidentState.CLOSED, now
    chain.append(session, number=incident.number, run_id=None, at=now, kind="incident_closed", actor=actor, text=text)
    outbox.refresh(session, incident.number, now)


def close_if_over(session: Session, number: int, now: datetime) -> None:
    """Close when the newest run completed and no alert fires any more."""
    incident = incidents.get(session, number)
    history = runs.of_incident(session, number)
    if incident is None or not history or history[-1].state is not RunState.COMPLETED:
        return
    if incidents.alerts(session, number) and incidents.resolved_at(session, number) is None:
        return
    text = "Every gate held, and the source says that it is over."
    close(session, incident, now, actor=machine.MACHINE, text=text)
