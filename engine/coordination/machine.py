"""The one writer of a run's and an attempt's state.

Every function here works in the caller's transaction: the move, its event, its outbox rows and the wake-up commit
together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from engine.domain import states
from engine.domain.incident import Topic
from engine.domain.states import AttemptState, RunEvent, RunState
from engine.store import chain, conversations, models, outbox, runs
from engine.store.session import Session
from engine.store.wakeups import wake

MACHINE = "signalbox"
""" The actor of what nobody in particular did. """
SENT_AGAIN = timedelta(seconds=15)
""" A run that is queued, and that nobody took up so long after it was woken, is woken again. """
ENDS_CONVERSATIONS = frozenset(
    {legal.event for legal in states.MOVES if legal.target is RunState.HALTED}
    | {RunEvent.TAKE_OVER_DECIDED, RunEvent.ABANDON_DECIDED}
)
""" What an agent had begun goes on after a lost worker and after a yes; never after a halt. """


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
    wake_at: datetime | None = None,
    detail: Mapping[str, Any] | None = None,
    **values: Any,
) -> models.Run:
    """Apply one legal move to the version that was read, with its event, the card's refresh and the wake-up.

    Raises IllegalMove; the transaction fails with Conflict when the run moved on meanwhile.
    """
    legal, was_at = states.move(run.state, event), run.leg  # `run` itself is the moved one after the update
    to = leg or run.leg
    final = legal.target in states.FINAL
    if final:
        values["ended_at"] = now
    if legal.target is RunState.QUEUED:
        wake_at = now + SENT_AGAIN
    elif legal.target in states.WAITS_FOR_A_PERSON:
        values["worker"] = None
    if event in ENDS_CONVERSATIONS:
        conversations.close(session, run.id, now)
    changed = runs.compare_and_set(
        session, run, state=legal.target, leg=to, waits_for=waits_for, wake_at=wake_at, **values
    )
    chain.append(
        session,
        number=run.incident_number,
        run_id=run.id,
        at=now,
        kind=event.value,
        actor=actor,
        text=text,
        detail={**(detail or {}), "leg": was_at, "to": to},
        move=legal,
    )
    outbox.refresh(session, run.incident_number, now)
    if final:
        key = f"run:{run.id}:ended"
        outbox.tell(session, Topic.RUN_ENDED, run.incident_number, run.id, key, outbox.ASKS_A_PERSON, now)
        if legal.source in states.LOST_WITH_ITS_WORKER or (changed.not_before or now) > now:
            changed.wake_at = now + SENT_AGAIN  # its VM may still live: whoever sees it dead lets go
        else:
            let_go(session, changed)
    elif legal.target is RunState.QUEUED:
        wake(session, changed)
    return changed


def let_go(session: Session, run: models.Run) -> None:
    """A run that ended, and whose VMs are dead, gives its targets back; whoever waited for them is woken."""
    if run.state not in states.FINAL:
        return
    run.worker = run.not_before = run.wake_at = None
    if runs.release_locks(session, run.id):
        for other in runs.waiting(session):
            wake(session, other)


def end_attempt(
    session: Session, attempt: models.Attempt, state: AttemptState, now: datetime, reason: str, **values: Any
) -> bool:
    """End a started attempt; False when it had been given up before: then its result is evidence and moves nothing."""
    return runs.end_attempt(session, attempt, state, now, reason, **values)


def give_up_attempt(
    session: Session, attempt: models.Attempt, now: datetime, reason: str, *, again: bool = False
) -> AttemptState | None:
    """End an attempt whose worker is gone: lost when it runs `again`, unknown when nobody can say what it did.

    Returns None when it had ended meanwhile.
    """
    state = AttemptState.LOST if again else AttemptState.UNKNOWN
    return state if runs.end_attempt(session, attempt, state, now, reason) else None
