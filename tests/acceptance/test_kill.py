"""`kill -9` of the whole program: what may run again does, what may not is asked about, and nothing stays alive."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.domain.states import AttemptState, RunState
from tests.acceptance.killing import Killing, tell

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def killing(vm_images: Path) -> Killing:
    """The play, once."""
    return tell()


def test_the_idempotent_diagnosis_is_lost_and_tried_again_by_itself(killing: Killing) -> None:
    """Nobody was asked: the run came as far as the approval."""
    assert killing.diagnose.before == [AttemptState.STARTED]
    assert killing.diagnose.after == [AttemptState.LOST, AttemptState.FINISHED]


def test_a_change_of_production_is_of_unknown_outcome_and_a_person_is_asked(killing: Killing) -> None:
    assert killing.production.before == [AttemptState.STARTED]
    assert killing.production.after == [AttemptState.UNKNOWN]
    assert "Outcome unknown: production" in killing.asked
    assert "It may or may not have worked" in killing.asked


def test_the_effect_counter_says_one_and_stays_at_one(killing: Killing) -> None:
    """No second writer was let in while nobody decided."""
    assert killing.effects == [1, 1]
    assert killing.writers == [1, 1]
    assert killing.end is RunState.TAKEN_OVER


def test_the_leftover_vm_is_destroyed_by_the_next_start(killing: Killing) -> None:
    """A change outlives its worker's connection on purpose, so here there really was one."""
    assert killing.production.vm_survived_the_kill
    assert not killing.production.vm_after_the_start
    assert not killing.diagnose.vm_after_the_start


@pytest.mark.parametrize("when", ["diagnose", "production"])
def test_no_token_of_the_dead_process_lives_on(killing: Killing, when: str) -> None:
    """It had some, the database knew them, and each was proved dead."""
    killed = killing.diagnose if when == "diagnose" else killing.production
    assert killed.tokens_left_alive
    assert killed.tokens_alive_after == set()
    assert killed.tokens_not_buried == set()


def test_at_rest_no_token_is_alive_at_all(killing: Killing) -> None:
    assert killing.live_tokens == ()


def test_what_happened_while_slack_was_down_is_told_once_when_it_is_back(killing: Killing) -> None:
    assert killing.raised_while_slack_was_down
    assert killing.waiting_while_slack_was_down > 0
    assert killing.questions == 1
    assert {row["state"] for row in killing.outbox} == {"sent"}
    long = [text for text in killing.texts if len(text) > 40]
    assert len(long) == len(set(long)), "a message was posted twice"


def test_nothing_is_left_behind(killing: Killing) -> None:
    assert killing.left_behind == ()
