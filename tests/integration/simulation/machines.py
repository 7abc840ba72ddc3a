"""Machines that are broken in one place each, as a mistake in a later change could break them.

What a simulation must say of each is beside it: a word of what is unsafe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from engine.coordination import boundary, decisions, escalation, judging, lost, machine
from engine.domain import states
from engine.domain.journey import Journey, Leg, LegKind
from engine.domain.states import MOVES, Move, RunEvent, RunState, Verdict
from engine.store import migrate, questions

Break = Callable[[pytest.MonkeyPatch], None]


def opened_by(verdict: Verdict) -> Break:
    """A gate opens by another verdict too."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(states.EVENT_OF_VERDICT, verdict, RunEvent.GATE_HELD)

    return broken


def a_move_skips_a_gate(patch: pytest.MonkeyPatch) -> None:
    """The table has a failed gate lead onward, in our code and in the database; who records it goes by the table."""
    wrong = Move(RunState.JUDGING, RunEvent.GATE_FAILED, RunState.QUEUED, "A move that somebody added.")
    moves = (*(move for move in MOVES if (move.source, move.event) != (wrong.source, wrong.event)), wrong)
    patch.setattr(states, "MOVES", moves)
    patch.setattr(migrate, "MOVES", moves)
    patch.setattr(states, "_BY_SOURCE_AND_EVENT", {(move.source, move.event): move for move in moves})
    real = escalation.halt

    def onward(session: Any, run: Any, event: Any, now: Any, **rest: Any) -> Any:
        if states.move(run.state, event).target is not RunState.QUEUED:
            return real(session, run, event, now, **rest)
        following = rest["journey"].after(run.leg).id
        return machine.move(session, run, event, now, text="on", leg=following, detail=rest["detail"])

    patch.setattr(judging, "halt", onward)


def legs_after_skip_gates(patch: pytest.MonkeyPatch) -> None:
    """After an attempt comes the next attempt."""
    real = Journey.after

    def after(self: Journey, leg_id: str) -> Leg:
        leg = real(self, leg_id)
        return real(self, leg.id) if leg.kind is LegKind.GATE else leg

    patch.setattr(Journey, "after", after)


def never_looks(name: str) -> Break:
    """One of the demands on the start of a change is taken for met."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(boundary, name, lambda *_: True)

    return broken


def retry_goes_straight(patch: pytest.MonkeyPatch) -> None:
    """A retry begins with the change itself, not with the gate before it."""

    def straight(_session: Any, run: Any, journey: Journey) -> Leg:
        here = journey.leg(run.leg)
        return journey.leg(here.of) if here.of else here

    patch.setattr(decisions, "retry_leg", straight)


def lost_changes_run_again(patch: pytest.MonkeyPatch) -> None:
    """A worker that dies in the middle of a change: it is simply done once more."""
    real = lost._attempt_lost

    def again(session: Any, run: Any, attempt: Any, *rest: Any) -> None:
        attempt.idempotent = True
        real(session, run, attempt, *rest)

    patch.setattr(lost, "_attempt_lost", again)


def a_halt_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    """The question is forgotten."""
    patch.setattr(escalation, "ask", lambda *_: None)


def a_question_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """The question is there, and nobody hears of it."""
    patch.setattr(escalation, "ask", lambda session, _number, row, _now: questions.add_escalation(session, row))


def a_run_that_waits_for_nothing(patch: pytest.MonkeyPatch) -> None:
    """A worker takes it up and lets it lie."""
    patch.setattr(boundary, "next_work", lambda *_, **__: None)


PAST = "it went past the gate confirmed, which did not hold"
BROKEN: Mapping[str, tuple[Break, str]] = {
    "inconclusive opens": (opened_by(Verdict.INCONCLUSIVE), PAST),
    "an error opens": (opened_by(Verdict.ERROR), PAST),
    "a move skips a gate": (a_move_skips_a_gate, PAST),
    "legs after skip gates": (legs_after_skip_gates, PAST),
    "the gate before is not looked at": (never_looks("_gate_before_is_good"), "held too long ago"),
    "approval is not looked at": (never_looks("_is_approved"), "nobody said yes"),
    "what was tested is not looked at": (never_looks("_was_tested"), "not tested on an unprotected target"),
    "the source is not looked at": (never_looks("_source_still_fires"), "the source had said that it is over"),
    "a retry goes straight": (retry_goes_straight, "was not measured again"),
    "lost changes run again": (lost_changes_run_again, "nobody decided for another try"),
    "a halt asks nobody": (a_halt_asks_nobody, "no question stands"),
    "a question is not told": (a_question_is_not_told, "nobody is told of escalation"),
    "a run waits for nothing": (a_run_that_waits_for_nothing, "hangs"),
}
