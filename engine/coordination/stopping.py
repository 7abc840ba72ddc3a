"""The kill switch: thrown and taken back by a named person, from Slack or on the machine itself."""

from __future__ import annotations

from datetime import datetime

from engine.domain.errors import Conflict
from engine.domain.incident import Person
from engine.store import outbox, runs, switch, views
from engine.store.session import Session
from engine.store.wakeups import wake

MAX_REASON = 200


def throw(session: Session, *, on: bool, person: Person, reason: str, now: datetime) -> None:
    """On: nothing starts any more, and whoever drives a step stops it within a beat. Off: what waited is woken.

    Raises Conflict when it stands so already.
    """
    if switch.read(session).on == on:
        raise Conflict(f"the kill switch is {'on' if on else 'off'} already")
    switch.throw(session, on=on, person=person, reason=" ".join(reason.split())[:MAX_REASON], now=now)
    for number in views.open_numbers(session):
        outbox.refresh(session, number, now)
    if not on:
        for run in runs.queued(session):
            wake(session, run)
