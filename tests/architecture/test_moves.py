"""What the table of moves promises, read off the table itself."""

from __future__ import annotations

import ast
import enum
import inspect

import pytest

from engine.domain import states
from engine.domain.errors import IllegalMove
from engine.domain.states import (
    DECIDED_BY_A_PERSON,
    EVENT_OF_DECISION,
    EVENT_OF_VERDICT,
    FINAL,
    LOST_WITH_ITS_WORKER,
    MOVES,
    WAITS_FOR_A_PERSON,
    Decision,
    RunEvent,
    RunState,
    Verdict,
    move,
)

S, E = RunState, RunEvent
LIVING = tuple(state for state in S if state not in FINAL and state is not S.NEW)


def between(source: RunState, target: RunState) -> set[RunEvent]:
    return {each.event for each in MOVES if (each.source, each.target) == (source, target)}


def reachable(start: RunState) -> set[RunState]:
    found, todo = {start}, [start]
    while todo:
        here = todo.pop()
        new = {each.target for each in MOVES if each.source is here} - found
        found |= new
        todo += new
    return found


def test_only_a_held_gate_leads_onward_and_a_lost_measurement_only_back_to_it() -> None:
    assert between(S.JUDGING, S.QUEUED) == {E.GATE_HELD, E.JUDGING_LOST}
    assert {each.source for each in MOVES if each.event is E.GATE_HELD} == {S.JUDGING}


def test_every_verdict_but_held_halts() -> None:
    assert set(EVENT_OF_VERDICT) == set(Verdict)
    for verdict, event in EVENT_OF_VERDICT.items():
        assert move(S.JUDGING, event).target is (S.QUEUED if verdict is Verdict.HELD else S.HALTED)


def test_judging_ends_held_halted_measured_anew_or_abandoned_and_in_no_other_way() -> None:
    assert {each.event for each in MOVES if each.source is S.JUDGING} == {
        *EVENT_OF_VERDICT.values(), E.JUDGING_LOST, E.ABANDON_DECIDED,
    }  # fmt: skip


def test_a_halted_run_is_left_only_by_a_person_s_decision() -> None:
    events = {each.event for each in MOVES if each.source is S.HALTED}

    assert events == set(EVENT_OF_DECISION.values())
    assert events <= DECIDED_BY_A_PERSON


def test_every_decision_has_its_move_from_halted() -> None:
    assert set(EVENT_OF_DECISION) == set(Decision)
    assert all(move(S.HALTED, event) for event in EVENT_OF_DECISION.values())


def test_only_a_yes_leads_on_from_waiting_for_one() -> None:
    assert between(S.AWAITING_APPROVAL, S.QUEUED) == {E.APPROVED}
    assert E.APPROVED in DECIDED_BY_A_PERSON


def test_an_agent_s_question_waits_for_a_yes_and_for_nothing_else() -> None:
    assert [(each.source, each.target) for each in MOVES if each.event is E.CALL_ASKED] == [
        (S.RUNNING, S.AWAITING_APPROVAL)
    ]


def test_an_attempt_of_which_nobody_knows_the_end_halts() -> None:
    assert move(S.RUNNING, E.ATTEMPT_UNKNOWN).target is S.HALTED
    assert between(S.RUNNING, S.QUEUED) == {E.ATTEMPT_FINISHED, E.ATTEMPT_LOST}


def test_a_run_completes_only_between_two_legs() -> None:
    assert {each.source for each in MOVES if each.target in {S.COMPLETED, S.ROLLED_BACK}} == {S.QUEUED}


def test_final_states_have_no_way_out_and_nothing_leads_back_to_the_beginning() -> None:
    assert [each for each in MOVES if each.source in FINAL] == []
    assert [each for each in MOVES if each.target is S.NEW] == []


@pytest.mark.parametrize("state", list(S))
def test_every_state_is_reached_from_the_beginning(state: RunState) -> None:
    assert state in reachable(S.NEW)


@pytest.mark.parametrize("state", list(S))
def test_every_state_reaches_an_end(state: RunState) -> None:
    assert reachable(state) & FINAL


@pytest.mark.parametrize("state", LIVING)
def test_a_person_can_end_a_run_wherever_it_is(state: RunState) -> None:
    assert move(state, E.ABANDON_DECIDED).target is S.ABANDONED


def test_every_event_of_a_run_has_a_move() -> None:
    assert {each.event for each in MOVES} == set(E)


def test_an_event_that_the_state_does_not_know_is_illegal() -> None:
    table = {(each.source, each.event) for each in MOVES}

    for source in S:
        for event in E:
            if (source, event) not in table:
                with pytest.raises(IllegalMove):
                    move(source, event)


def test_the_classes_of_states_do_not_overlap() -> None:
    assert not FINAL & WAITS_FOR_A_PERSON
    assert not FINAL & LOST_WITH_ITS_WORKER
    assert not WAITS_FOR_A_PERSON & LOST_WITH_ITS_WORKER


@pytest.mark.parametrize("each", MOVES, ids=lambda each: f"{each.source}-{each.event}")
def test_every_move_says_in_a_sentence_why_it_is_permitted(each: states.Move) -> None:
    assert each.because[0].isupper()
    assert each.because.endswith(".")
    assert len(each.because.split()) >= 4


def documented(kind: type[enum.Enum]) -> set[str]:
    """Members that are followed by a docstring in the source."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = set()
    for here, following in zip(tree.body, tree.body[1:], strict=False):
        match here, following:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))) if text.strip():
                found.add(name)
    return found


def test_every_state_of_a_run_says_what_it_means() -> None:
    assert documented(RunState) == {state.name for state in RunState}
