"""Where a run stands, asked of the real machine: what may be told to whoever works in it."""

from __future__ import annotations

import pytest

from engine.domain.errors import BadInput
from engine.domain.states import RunState, Verdict
from tests.integration.engine.conftest import ANA, Box


def test_it_follows_the_run(box: Box) -> None:
    token = box.until_approval()
    before = box.service.standing(box.run().id)
    box.service.approve(token, ANA, yes=True)
    box.go()
    after = box.service.standing(box.run().id)

    assert (before.step, before.waits_for_a_person) == ("production", True)
    assert [step.id for step in before.steps if step.may_proceed][-1] == "tests-pass"
    assert not before.of("production").finished
    assert (after.state, after.over) == (RunState.COMPLETED, True)
    assert all(step.may_proceed for step in after.steps)


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.ERROR])
def test_however_a_gate_ended_it_is_told_alike(box: Box, verdict: Verdict) -> None:
    """Whoever asks learns that it may not go on, not what was found."""
    box.gates.verdicts["tests-inside"] = verdict
    box.fire()
    box.go()
    there = box.service.standing(box.run().id)

    assert (there.state, there.step) == (RunState.HALTED, "tests-pass")
    assert there.of("staging").finished
    assert not there.of("staging").may_proceed


def test_a_run_that_is_not_there_is_said_so(box: Box) -> None:
    with pytest.raises(BadInput, match="no run"):
        box.service.standing("nothing")
