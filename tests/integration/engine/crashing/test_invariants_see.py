"""Each invariant is shown what it forbids, once: one that cannot see it guards nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from engine.domain.ports import VmTask
from engine.domain.states import ApprovalState, AttemptState, Choice, RunState, Verdict
from engine.store import migrate, models
from engine.store.session import Database
from tests.doubles.chaos import Chaos
from tests.doubles.engine import PlainRedactor
from tests.doubles.outside import Vm, VmHost
from tests.integration.engine.crashing import deeds, invariants
from tests.integration.engine.crashing.invariants import ALWAYS, SETTLED, wrong
from tests.integration.engine.crashing.seen import Seen
from tests.integration.engine.crashing.world import Deed, World


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Seen]:
    """A run that was rolled back, one that completed after a retry, one that asks."""
    url = f"sqlite:///{Path(tmp_path_factory.mktemp('story')) / 'test.db'}"
    observer, database, chaos = Database(url), Database(url), Chaos()
    migrate.upgrade(observer)
    world = World((database,), observer, chaos, ("here",), deeds.MEANWHILE)

    def do(*done: Deed) -> None:
        for deed in done:
            assert world.do(0, lambda process: deed(world, process))  # noqa: B023 - called at once

    world.send(0, "ToyBroken firing")
    do(deeds.watch, deeds.drive, deeds.approve, deeds.break_production, deeds.carry_on, deeds.drive)
    do(deeds.declare, deeds.drive, deeds.approve, deeds.break_production, deeds.MEANWHILE["retry"], deeds.drive)
    do(deeds.approve, deeds.drive)
    do(deeds.declare, deeds.drive)

    def look_anew() -> Seen:
        outside, heard = copy(world.outside), copy(world.heard)
        heard.ended = dict(heard.ended)
        outside.vms, outside.tokens, outside.effects, outside.wrong = {}, set(), list(outside.effects), []
        return replace(world.look(), outside=outside, heard=heard)

    return look_anew


def test_the_story_is_as_it_should_be(story: Callable[[], Seen]) -> None:
    seen = story()

    assert [run.state for run in seen.runs] == [
        RunState.ROLLED_BACK,
        RunState.COMPLETED,
        RunState.AWAITING_APPROVAL,
    ]
    assert wrong(seen, ALWAYS + SETTLED) == []


# -- what is planted


def state_without_an_event(seen: Seen) -> None:
    seen.runs[-1].state = RunState.COMPLETED


def illegal_event(seen: Seen) -> None:
    next(event for event in seen.events if event.kind == "gate_held").kind = "attempt_finished"


def ended_twice(seen: Seen) -> None:
    seen.attempts[0].state = AttemptState.UNKNOWN


def edited_history(seen: Seen) -> None:
    seen.events[3].text = "nothing happened"


def gap_in_history(seen: Seen) -> None:
    without(seen.events, seen.events[3])


def tail_cut_off(seen: Seen) -> None:
    without(seen.events, seen.events[-1])


def second_started_attempt(seen: Seen) -> None:
    for attempt in seen.attempts[-2:]:
        attempt.state = AttemptState.STARTED


def effect_twice(seen: Seen) -> None:
    seen.outside.effects.append(seen.outside.effects[0])


def effect_before_its_start(seen: Seen) -> None:
    seen.outside.effects.append(replace(seen.outside.effects[0], attempt_id="nobody knows it"))


def retried_by_itself(seen: Seen) -> None:
    for row in seen.decisions:
        if row.choice is Choice.RETRY:
            row.at += timedelta(days=1)


def gate_had_failed(seen: Seen) -> None:
    gate_of_production(seen).verdict = Verdict.FAILED


def verdict_came_late(seen: Seen) -> None:
    gate_of_production(seen).late = True


def verdict_older_than_the_change(seen: Seen) -> None:
    row = gate_of_production(seen)
    row.begun_at -= timedelta(days=1)
    row.ended_at = row.begun_at


def gate_opened_by_another_verdict(seen: Seen) -> None:
    event = next(event for event in seen.events if event.kind == "gate_held")
    event.detail = {**event.detail, "verdict": "none"}


def gate_opened_twice_by_one(seen: Seen) -> None:
    one, other = [event for event in seen.events if event.kind == "gate_held" and event.detail["leg"] == "confirmed"][
        :2
    ]
    other.run_id, other.detail = one.run_id, one.detail


def check_did_not_hold(seen: Seen) -> None:
    row = gate_of_production(seen)
    row.checks = [{**check, "independent": False} for check in row.checks]


def approval_of_another_order(seen: Seen) -> None:
    consumed(seen).order_digest = "another"


def approval_without_a_person(seen: Seen) -> None:
    approval = consumed(seen)
    for row in [row for row in seen.decisions if row.approval_id == approval.id]:
        without(seen.decisions, row)


def approval_used_twice(seen: Seen) -> None:
    attempts = [row for row in seen.attempts if row.leg == "production"]
    attempts[-1].run_id, attempts[-1].order_digest = attempts[0].run_id, attempts[0].order_digest


def halted_and_nobody_asked(seen: Seen) -> None:
    for row in seen.escalations:
        row.decided = None


def approval_forgotten(seen: Seen) -> None:
    seen.pending()[0].state = ApprovalState.EXPIRED


def nobody_told(seen: Seen) -> None:
    seen.told = frozenset(key for key in seen.told if not key.startswith("escalation:"))


def lock_let_go(seen: Seen) -> None:
    without(seen.locks, seen.locks[0])


def vm_outlives_its_lock(seen: Seen) -> None:
    attempt = seen.attempts[0]
    seen.outside.vms[attempt.id] = vm(seen, attempt)
    seen.outside.tokens.add(attempt.id)


def body_lost(seen: Seen) -> None:
    without(seen.inbox, seen.inbox[0])


def body_rejected(seen: Seen) -> None:
    seen.inbox[0].state, seen.inbox[0].reason = "rejected", "it was Tuesday"


def click_lost(seen: Seen) -> None:
    without(seen.decisions, seen.decisions[0])


def click_counted_twice(seen: Seen) -> None:
    seen.decisions[1].approval_id, seen.decisions[1].escalation_id = seen.decisions[0].approval_id, None


def two_vms_at_once(seen: Seen) -> None:
    seen.outside.begin(vm(seen, seen.attempts[0]))
    seen.outside.begin(vm(seen, seen.attempts[1]))


def begun_for_what_was_given_up(seen: Seen) -> None:
    task = vm(seen, seen.attempts[0]).task
    VmHost(seen.outside, "here", "somebody").run(task, PlainRedactor(), lambda _text: None)


def change_of_what_is_not_held(seen: Seen) -> None:
    attempt = next(row for row in seen.attempts if row.changes)
    seen.outside.tokens.add(attempt.id)
    seen.outside.vms[attempt.id] = vm(seen, attempt)
    seen.outside.work(seen.outside.vms[attempt.id])


def under_way_for_ever(seen: Seen) -> None:
    seen.runs[-1].state = RunState.JUDGING


def queued_for_ever(seen: Seen) -> None:
    seen.runs[-1].state = RunState.QUEUED


def vm_left(seen: Seen) -> None:
    seen.outside.vms["left"] = vm(seen, seen.attempts[0])


def token_left(seen: Seen) -> None:
    seen.tokens[0].revoked_at = None


def lock_left(seen: Seen) -> None:
    seen.locks[0].run_id = seen.runs[0].id


def claim_left(seen: Seen) -> None:
    seen.runs[0].worker = seen.workers[0].id


def body_left(seen: Seen) -> None:
    seen.inbox[0].state = "pending"


def alert_forgotten(seen: Seen) -> None:
    seen.heard.bodies = ["ToyBroken firing", "ToyBroken resolved"]


PLANTED: tuple[tuple[Callable[[Seen], invariants.Wrong], tuple[Callable[[Seen], None], ...]], ...] = (
    (invariants.a_run_is_where_its_events_lead, (state_without_an_event, illegal_event)),
    (invariants.what_ended_stays_as_it_ended, (ended_twice,)),
    (invariants.history_is_one_unbroken_chain, (edited_history, gap_in_history, tail_cut_off)),
    (invariants.one_attempt_at_a_time, (second_started_attempt,)),
    (invariants.only_what_was_started_has_an_effect, (effect_twice, effect_before_its_start)),
    (invariants.no_change_twice_without_a_person, (retried_by_itself,)),
    (
        invariants.no_change_without_a_held_gate,
        (gate_had_failed, verdict_came_late, verdict_older_than_the_change),
    ),
    (
        invariants.a_gate_opens_by_its_verdict_only,
        (gate_had_failed, gate_opened_by_another_verdict, gate_opened_twice_by_one, check_did_not_hold),
    ),
    (
        invariants.production_needs_a_yes_to_that_order,
        (approval_of_another_order, approval_without_a_person, approval_used_twice),
    ),
    (invariants.who_waits_for_a_person_asks, (halted_and_nobody_asked, approval_forgotten)),
    (invariants.people_are_told, (nobody_told,)),
    (invariants.targets_are_held, (lock_let_go, vm_outlives_its_lock)),
    (invariants.no_alert_is_lost, (body_lost, body_rejected)),
    (invariants.no_click_is_lost_or_counted_twice, (click_lost, click_counted_twice)),
    (
        invariants.nothing_impossible_happened_outside,
        (two_vms_at_once, begun_for_what_was_given_up, change_of_what_is_not_held),
    ),
    (invariants.nothing_hangs, (under_way_for_ever, queued_for_ever)),
    (invariants.nothing_is_left_behind, (vm_left, token_left, lock_left, claim_left)),
    (invariants.every_alert_was_worked_off, (body_left, alert_forgotten)),
)


@pytest.mark.parametrize(
    ("invariant", "plant"),
    [pytest.param(each, plant, id=plant.__name__) for each, plants in PLANTED for plant in plants],
)
def test_it_is_seen(
    story: Callable[[], Seen], invariant: Callable[[Seen], invariants.Wrong], plant: Callable[[Seen], None]
) -> None:
    seen = story()
    plant(seen)

    assert wrong(seen, (invariant,)) != []


def test_every_invariant_was_shown_something() -> None:
    assert {invariant for invariant, _ in PLANTED} == {*ALWAYS, *SETTLED}


# -- how it is planted


def without(rows: Sequence[models.Base], row: models.Base) -> None:
    assert isinstance(rows, list)
    rows.remove(row)


def gate_of_production(seen: Seen) -> models.GateVerdict:
    return next(row for row in seen.verdicts if row.leg == "tests-pass")


def consumed(seen: Seen) -> models.Approval:
    return next(row for row in seen.approvals if row.state is ApprovalState.CONSUMED)


def vm(seen: Seen, attempt: models.Attempt) -> Vm:
    task = VmTask(id=attempt.id, run_id=attempt.run_id, image="step", argv=(attempt.leg,), timeout_s=60)
    return Vm(task, "here", "somebody", seen.now)
