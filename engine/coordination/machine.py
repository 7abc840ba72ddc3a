"""The one writer of a run's and an attempt's state.

Every function here works in the caller's transaction: the move, its event, its outbox rows and the wake-up commit
together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from engine.domain import states
from engine.domain.incident import Topic
from engine.domain.states import AttemptState, RunEvent, RunState
from engine.store import incidents, models, outbox, runs
from engine.store.ids import new_id
from engine.store.session import Session, wake

MACHINE = "signalbox"
""" The actor of what nobody in particular did. """


def move(
    session: Session,
    run: models.Run,
    event: RunEvent,
    now: datetime,
    *,
    actor: str = MACHINE,
    text: str,
    leg: str | None = None,
    waits_for: str = "",
    detail: Mapping[str, Any] | None = None,
    **values: Any,
) -> models.Run:
    """Apply one legal move to the version that was read, with its event, the card's refresh and the wake-up.

    Raises IllegalMove, and Conflict when the run moved on meanwhile.
    """
    legal, was_at = states.move(run.state, event), run.leg  # `run` itself is the moved one after the update
    final = legal.target in states.FINAL
    if final:
        values["ended_at"] = now
    changed = runs.compare_and_set(session, run, state=legal.target, leg=leg or run.leg, waits_for=waits_for, **values)
    incidents.append_event(
        session,
        number=run.incident_number,
        run_id=run.id,
        at=now,
        kind=event.value,
        actor=actor,
        text=text,
        detail={**(detail or {}), "leg": was_at, "to": changed.leg},
        move=legal,
    )
    refresh(session, run.incident_number, now)
    if final:
        key = f"run:{run.id}:ended"
        outbox.tell(session, Topic.RUN_ENDED, run.incident_number, run.id, key, outbox.ASKS_A_PERSON, now)
        if legal.source not in states.LOST_WITH_ITS_WORKER:  # else its VM may still live: whoever sees it dead lets go
            let_go(session, changed)
    elif legal.target is RunState.QUEUED:
        wake(session, run.id)
    return changed


def let_go(session: Session, run: models.Run) -> None:
    """A run that ended, and whose VMs are dead, gives its targets back; whoever waited for them is woken."""
    if run.state in states.FINAL and runs.release_locks(session, run.id):
        for run_id in runs.ids_in(session, [RunState.QUEUED]):
            wake(session, run_id)


def end_attempt(session: Session, attempt_id: str, state: AttemptState, now: datetime, reason: str) -> bool:
    """End a started attempt; False when it had been given up before: then its result is evidence and moves nothing."""
    return runs.end_attempt(session, attempt_id, state, now, reason)


def refresh(session: Session, number: int, now: datetime) -> None:
    """The card and the feed line show what is true now."""
    for topic in (Topic.CARD, Topic.FEED):
        key = f"{topic.value}:{number}:{new_id()}"
        outbox.tell(session, topic, number, str(number), key, outbox.PROGRESS, now)


def give_up_attempt(
    session: Session, attempt: models.Attempt, now: datetime, reason: str, *, again: bool = False
) -> AttemptState | None:
    """End an attempt whose worker is gone: lost when it runs `again`, unknown when nobody can say what it did.

    Returns None when it had ended meanwhile.
    """
    state = AttemptState.LOST if again else AttemptState.UNKNOWN
    return state if runs.end_attempt(session, attempt.id, state, now, reason) else None
