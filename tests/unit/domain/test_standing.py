"""Where a run stands: finished is not passed, and only a held gate lets anybody proceed."""

from __future__ import annotations

import dataclasses
import json

import pytest

from engine.domain.journey import plan
from engine.domain.standing import Place, Standing, standing
from engine.domain.states import RunState
from tests.doubles.toy import toy_runbook

JOURNEY = plan(toy_runbook())


def at(leg: str, state: RunState = RunState.QUEUED) -> Standing:
    return standing(JOURNEY, run="r", incident=7, runbook="toy", state=state, leg=leg)


def test_a_step_under_way_is_neither_finished_nor_passed() -> None:
    step = at("diagnose", RunState.RUNNING).of("diagnose")

    assert (step.place, step.finished, step.may_proceed) == (Place.HERE, False, False)


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.JUDGING, RunState.HALTED])
def test_a_step_whose_gate_is_next_is_finished_and_may_not_proceed(state: RunState) -> None:
    gate = JOURNEY.after("diagnose").id
    step = at(gate, state).of("diagnose")

    assert (step.finished, step.may_proceed) == (True, False)


def test_after_its_gate_held_it_may_proceed() -> None:
    gate = JOURNEY.after("diagnose").id

    assert at(JOURNEY.after(gate).id).of("diagnose").may_proceed


def test_a_rehearsed_step_is_not_finished_before_its_last_leg_is_behind() -> None:
    for leg in ("staging:rehearse", "staging:rollback", "staging:rollback-gate", "staging"):
        step = at(leg).of("staging")
        assert (step.place, step.finished, step.may_proceed) == (Place.HERE, False, False), leg


def test_what_is_rolled_back_stands_at_its_step_and_may_not_proceed() -> None:
    there = at("production:rollback", RunState.RUNNING)

    assert there.step == "production"
    assert not there.of("production").may_proceed


def test_in_a_run_that_completed_every_step_is_behind() -> None:
    there = at(JOURNEY.line[-1].id, RunState.COMPLETED)

    assert there.over
    assert all(step.may_proceed for step in there.steps)


@pytest.mark.parametrize("gate", ["confirmed", "tests-pass"])
def test_it_says_nothing_of_what_gates_measure(gate: str) -> None:
    """A held gate and a failed one differ in where the run is, and in nothing else."""
    told = json.dumps(dataclasses.asdict(at(gate, RunState.HALTED)))

    for leg in JOURNEY.line:
        for check in leg.checks:
            assert check.id not in told, check.id
