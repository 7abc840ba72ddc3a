"""What holds at every moment, whatever was struck by what: one function each, that yields what is wrong.

`ALWAYS` after every deed, `SETTLED` when nothing is done any more and time passed. Each was seen red on a planted
violation (`test_invariants_see.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from engine.domain.chain import EMPTY, Head
from engine.domain.journey import Role
from engine.domain.runbook import ScriptStep
from engine.domain.states import (
    FINAL,
    MOVES,
    WAITS_FOR_A_PERSON,
    ApprovalState,
    AttemptState,
    Choice,
    RunEvent,
    RunState,
    Verdict,
)
from engine.store import chain, models
from tests.integration.engine.crashing.seen import Seen

Wrong = Iterator[str]
LEGAL = {(move.source.value, move.event.value, move.target.value) for move in MOVES}
NEW_TRIES = (Choice.RETRY, Choice.ROLL_BACK)


def a_run_is_where_its_events_lead(seen: Seen) -> Wrong:
    """Replayed from `new`, the moves of a run's events are legal and end in its state."""
    for run in seen.runs:
        state = RunState.NEW.value
        for event in sorted(seen.of(seen.events, run), key=lambda row: row.seq):
            if event.move_source is None or event.move_target is None:
                continue
            if event.move_source != state or (state, event.kind, event.move_target) not in LEGAL:
                yield f"{run.id}: {event.kind} from {state} says {event.move_source} -> {event.move_target}"
            state = event.move_target
        if state != run.state.value:
            yield f"{run.id} is {run.state}, its events lead to {state}"


def what_ended_stays_as_it_ended(seen: Seen) -> Wrong:
    """No run, attempt or approval that was seen ended is anything else later: a late result moves nothing."""
    states: dict[str, str] = {row.id: row.state.value for row in seen.runs}
    states |= {row.id: row.state.value for row in seen.attempts}
    states |= {row.id: row.state.value for row in seen.approvals}
    for name, state in seen.heard.ended.items():
        if states.get(name) != state:
            yield f"{name} had ended as {state} and is {states.get(name)}"


def history_is_one_unbroken_chain(seen: Seen) -> Wrong:
    """Every incident's events count from 1 without a gap, each hash covers the one before, the last is the head."""
    for incident in seen.incidents:
        head = EMPTY
        rows = [event for event in seen.events if event.incident_number == incident.number]
        for event in sorted(rows, key=lambda row: row.seq):
            link = chain.link_of(event)
            if (event.seq, event.hash) != (head.seq + 1, link.hash(head.hash)):
                yield f"incident {incident.number}: event {event.seq} does not follow {head.seq}"
            head = Head(event.seq, event.hash)
        if head != chain.head_of(incident.head_seq, incident.head_hash):
            yield f"incident {incident.number}: its head is not its newest event"


def one_attempt_at_a_time(seen: Seen) -> Wrong:
    """A running run has one started attempt; no other has any."""
    for run in seen.runs:
        started = [row for row in seen.of(seen.attempts, run) if row.state is AttemptState.STARTED]
        if len(started) != (run.state is RunState.RUNNING):
            yield f"{run.id} is {run.state} with {len(started)} started attempts"


def only_what_was_started_has_an_effect(seen: Seen) -> Wrong:
    """Every effect is that of a change which the database knew of before, once each."""
    known = {row.id: row for row in seen.attempts if row.changes}
    for attempt_id, number in Counter(effect.attempt_id for effect in seen.outside.effects).items():
        if number > 1:
            yield f"attempt {attempt_id} changed its target {number} times"
    for effect in seen.outside.effects:
        attempt = known.get(effect.attempt_id)
        if attempt is None or (attempt.run_id, attempt.leg) != (effect.run_id, effect.leg):
            yield f"{effect.leg} was changed by {effect.attempt_id}, which was never started for it"


def no_change_twice_without_a_person(seen: Seen) -> Wrong:
    """Between two attempts of a change that is not idempotent a named person decided for another try."""
    for run in seen.runs:
        asked = [row.at for row in seen.of(seen.decisions, run) if row.choice in NEW_TRIES]
        tries: dict[str, list[models.Attempt]] = {}
        for attempt in seen.of(seen.attempts, run):
            if attempt.changes and not attempt.idempotent:
                tries.setdefault(attempt.leg, []).append(attempt)
        for leg, attempts in tries.items():
            for one, other in pairwise(attempts):
                if not any(one.started_at < at <= other.started_at for at in asked):
                    yield f"{run.id}: {leg} was started again and nobody had decided so"


def no_change_without_a_held_gate(seen: Seen) -> Wrong:
    """The newest verdict of the gate before a change held, was not late, and is newer than what it judged.

    A change that is tried again has it measured again.
    """
    for attempt in seen.attempts:
        leg = seen.journey.leg(attempt.leg)
        undo = leg.role is Role.ROLLBACK and seen.journey.rollback_of(attempt.step) is not None
        if not attempt.changes or undo:
            continue
        gate = seen.journey.gate_before(attempt.leg)
        of_run = [row for row in seen.verdicts if row.run_id == attempt.run_id and not row.late]
        before = [row for row in of_run if gate and row.leg == gate.id and row.ended_at <= attempt.started_at]
        if gate is None or not before or before[-1].verdict is not Verdict.HELD:
            yield f"{attempt.leg} was started and the gate before it did not hold"
            continue
        judged = [row for row in seen.attempts if row.run_id == attempt.run_id and row.leg in {gate.of, attempt.leg}]
        ends = [row.ended_at for row in judged if row.ended_at and row.started_at < attempt.started_at]
        if ends and before[-1].begun_at < max(ends):
            yield f"{attempt.leg} was started by a verdict older than what was tried before"


def a_gate_opens_by_its_verdict_only(seen: Seen) -> Wrong:
    """Every `gate_held` names a verdict of that gate which held, every check of it, one of them independent."""
    verdicts = {row.id: row for row in seen.verdicts}
    used: Counter[str] = Counter()
    for event in seen.events:
        if event.kind != RunEvent.GATE_HELD.value:
            continue
        row = verdicts.get(event.detail.get("verdict", ""))
        held = row is not None and row.verdict is Verdict.HELD and not row.late and row.run_id == event.run_id
        if row is None or not held or row.leg != event.detail["leg"]:
            yield f"{event.detail['leg']} opened without a verdict that held"
            continue
        used[row.id] += 1
        found = {check["verdict"] for check in row.checks}
        if found != {Verdict.HELD.value} or not any(check["independent"] for check in row.checks):
            yield f"{row.leg} held and its checks say {found}"
    yield from (f"verdict {name} opened its gate {number} times" for name, number in used.items() if number > 1)


def production_needs_a_yes_to_that_order(seen: Seen) -> Wrong:
    """A protected target is changed under an approval of that very order, given before, by a person, used up once."""
    for attempt in seen.attempts:
        step = seen.journey.leg(attempt.leg).step
        target = seen.runbook.targets.get(attempt.target or "")
        if not attempt.changes or not isinstance(step, ScriptStep) or target is None or not target.protected:
            continue
        same = (attempt.run_id, attempt.leg, attempt.order_digest)
        used = [row for row in seen.approvals if (row.run_id, row.leg, row.order_digest) == same]
        used = [row for row in used if row.state is ApprovalState.CONSUMED]
        yes = [
            row
            for row in seen.decisions
            if row.choice is Choice.APPROVE and row.at <= attempt.started_at and row.order_digest == same[2]
        ]
        given = {row.approval_id for row in yes} & {row.id for row in used}
        until_now = [row for row in seen.attempts if row.started_at <= attempt.started_at]
        tries = [row for row in until_now if (row.run_id, row.leg, row.order_digest) == same]
        if len(given) < len(tries):
            yield f"{attempt.leg} was started {len(tries)} times under {len(given)} approvals of its order"


def who_waits_for_a_person_asks(seen: Seen) -> Wrong:
    """A halted run has one open question, one that awaits approval one pending order, no other has either."""
    for run in seen.runs:
        raised = [row for row in seen.open() if row.run_id == run.id]
        if len(raised) != (run.state is RunState.HALTED):
            yield f"{run.id} is {run.state} with {len(raised)} open questions"
        pending = [row for row in seen.pending() if row.run_id == run.id]
        if len(pending) != (run.state is RunState.AWAITING_APPROVAL):
            yield f"{run.id} is {run.state} with {len(pending)} orders that wait"
        given = [row for row in seen.of(seen.approvals, run) if row.state is ApprovalState.APPROVED]
        if given and run.state not in {RunState.QUEUED, RunState.JUDGING}:
            yield f"{run.id} is {run.state} and a yes to it is unused"


def people_are_told(seen: Seen) -> Wrong:
    """Every question, verdict and end of a run has its row in the outbox."""
    keys = [f"escalation:{row.id}:raised" for row in seen.escalations]
    keys += [f"approval:{row.id}:requested" for row in seen.pending()]
    keys += [f"escalation:{row.id}:decided" for row in seen.escalations if row.decided is not None]
    keys += [f"verdict:{row.id}" for row in seen.verdicts]
    keys += [f"run:{run.id}:ended" for run in seen.runs if run.state in FINAL]
    yield from (f"nobody is told of {key}" for key in keys if key not in seen.told)


def targets_are_held(seen: Seen) -> Wrong:
    """A run that is past its first leg holds all its targets until it ended and nothing of it lives."""
    hosts = {target.host for target in seen.runbook.targets.values()}
    living = {vm.task.run_id for vm in seen.outside.vms.values()}
    for run in seen.runs:
        mine = {lock.target for lock in seen.locks if lock.run_id == run.id}
        first = run.leg == seen.journey.line[0].id
        if run.state not in FINAL and not first and mine != hosts:
            yield f"{run.id} is at {run.leg} and holds {mine}"
        if run.id in living and mine != hosts:
            yield f"a VM of {run.id} lives and its run holds {mine}"


def no_alert_is_lost(seen: Seen) -> Wrong:
    """What was accepted is kept, once, in order; only what makes no sense is rejected, with a reason."""
    kept = [row.body.decode() for row in seen.inbox]
    if kept != seen.heard.bodies:
        yield f"accepted {seen.heard.bodies}, kept {kept}"
    for row in seen.inbox:
        nonsense = row.body.decode().split()[1] not in {"firing", "resolved"}
        if (row.state == "rejected") != (nonsense and row.state != "pending") or (
            row.state == "rejected" and not row.reason
        ):
            yield f"{row.body!r} is {row.state}: {row.reason}"


def no_click_is_lost_or_counted_twice(seen: Seen) -> Wrong:
    """An answer that somebody was told of stands; a question has one answer at most."""
    tokens = {row.id: row.token for row in seen.approvals} | {row.id: row.token for row in seen.escalations}
    answers = [row for row in seen.decisions if row.choice is not Choice.EXTEND]
    given = Counter(row.approval_id or row.escalation_id for row in answers)
    yield from (f"question {name} has {number} answers" for name, number in given.items() if name and number > 1)
    there = {(tokens.get(row.approval_id or row.escalation_id or ""), row.choice.value) for row in answers}
    yield from (f"the answer {answer} is gone" for answer in seen.heard.answers if answer not in there)


def nothing_impossible_happened_outside(seen: Seen) -> Wrong:
    """No two VMs of a run at once, none for what was given up or stopped, no change of what its run does not hold."""
    yield from seen.outside.wrong


ALWAYS: tuple[Callable[[Seen], Wrong], ...] = (
    a_run_is_where_its_events_lead,
    what_ended_stays_as_it_ended,
    history_is_one_unbroken_chain,
    one_attempt_at_a_time,
    only_what_was_started_has_an_effect,
    no_change_twice_without_a_person,
    no_change_without_a_held_gate,
    a_gate_opens_by_its_verdict_only,
    production_needs_a_yes_to_that_order,
    who_waits_for_a_person_asks,
    people_are_told,
    targets_are_held,
    no_alert_is_lost,
    no_click_is_lost_or_counted_twice,
    nothing_impossible_happened_outside,
)


# -- when all is quiet


def nothing_hangs(seen: Seen) -> Wrong:
    """No run is under way or queued: it ended, or a person is asked, if only because its time is over."""
    for run in seen.active():
        if run.state not in WAITS_FOR_A_PERSON:
            yield f"{run.id} is {run.state} at {run.leg} and nobody works on it"


def nothing_is_left_behind(seen: Seen) -> Wrong:
    """No VM lives, every token is proved dead, what ended gave its targets back, no worker is dead and claims."""
    yield from (f"a VM of {vm.leg} lives" for vm in seen.outside.vms.values())
    yield from (f"token {row.accessor} was not proved dead" for row in seen.tokens if row.revoked_at is None)
    ended = {run.id for run in seen.runs if run.state in FINAL}
    yield from (f"{lock.run_id} ended and holds {lock.target}" for lock in seen.locks if lock.run_id in ended)
    yield from (f"{run.id} is claimed by {run.worker}" for run in seen.runs if run.worker is not None)


def every_alert_was_worked_off(seen: Seen) -> Wrong:
    """Nothing waits in the inbox; each alert stands as its source said last."""
    yield from (f"{row.body!r} waits" for row in seen.inbox if row.state == "pending")
    said: dict[str, str] = {}
    for name, _, rest in (body.partition(" ") for body in seen.heard.bodies):
        status = rest.split()[0]
        if status == "firing" or (status == "resolved" and name in said):
            said[name] = status
    stands = {row.name: row.status.value for row in seen.alerts}
    if said != stands:
        yield f"the sources said {said}, the alerts stand at {stands}"


SETTLED: tuple[Callable[[Seen], Wrong], ...] = (nothing_hangs, nothing_is_left_behind, every_alert_was_worked_off)


def wrong(seen: Seen, invariants: tuple[Callable[[Seen], Wrong], ...]) -> list[str]:
    """Everything that is wrong, with the name of what it violates."""
    return [f"{invariant.__name__}: {what}" for invariant in invariants for what in invariant(seen)]
