"""Where a run stands, as it may be told to whoever works in it: "is this step finished, may I proceed?".

Answered from the machine's state alone. It never says what a gate measures, what it found or would find: whoever asks
may be the one that the gate judges.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from engine.domain.journey import Journey, Leg, LegKind
from engine.domain.runbook import CloseStep, GateStep, ReceiveStep, ScriptStep, Step
from engine.domain.states import FINAL, WAITS_FOR_A_PERSON, RunState


class Place(enum.StrEnum):
    """Where a step lies, seen from where the run is."""

    BEHIND = "behind"
    HERE = "here"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStanding:
    """One step. `finished`: its attempt ended, which certifies nothing. `may_proceed`: and the gate after it held."""

    id: str
    kind: str
    place: Place
    finished: bool
    may_proceed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A run. `step`: where it is. `waits_for_a_person`: nothing moves until somebody decides. `over`: it ended."""

    run: str
    incident: int
    runbook: str
    state: RunState
    step: str
    over: bool
    waits_for_a_person: bool
    steps: tuple[StepStanding, ...]

    def of(self, step: str) -> StepStanding:
        """One step of it; raises KeyError."""
        for one in self.steps:
            if one.id == step:
                return one
        raise KeyError(step)


def standing(journey: Journey, *, run: str, incident: int, runbook: str, state: RunState, leg: str) -> Standing:
    """Where a run of this journey stands. Raises KeyError for a leg that is not in it."""
    here = journey.leg(leg)
    line = list(journey.line)
    at = len(line) if state is RunState.COMPLETED else _place(line, here)
    steps: dict[str, Step] = {one.step.id: one.step for one in line}
    return Standing(
        run=run,
        incident=incident,
        runbook=runbook,
        state=state,
        step=here.step.id,
        over=state in FINAL,
        waits_for_a_person=state in WAITS_FOR_A_PERSON,
        steps=tuple(_of(step, line, at) for step in steps.values()),
    )


def _place(line: list[Leg], here: Leg) -> int:
    """Its index; a leg of a rollback stands where the step stands that it undoes."""
    for number, leg in enumerate(line):
        if leg.id == here.id:
            return number
    return next(number for number, leg in enumerate(line) if leg.id == here.step.id)


def _of(step: Step, line: list[Leg], at: int) -> StepStanding:
    legs = [number for number, leg in enumerate(line) if leg.step.id == step.id]
    first, last = legs[0], legs[-1]
    place = Place.BEHIND if last < at else Place.AHEAD if first > at else Place.HERE
    gate = next((number for number, leg in enumerate(line) if _judges(leg, step) and number > last), last)
    return StepStanding(
        id=step.id, kind=_kind(step), place=place, finished=place is Place.BEHIND, may_proceed=gate < at
    )


def _judges(leg: Leg, step: Step) -> bool:
    return leg.kind is LegKind.GATE and leg.of == step.id


def _kind(step: Step) -> str:
    match step:
        case ReceiveStep():
            return "receive"
        case GateStep():
            return "gate"
        case CloseStep():
            return "close"
        case ScriptStep():
            return str(step.tool)
