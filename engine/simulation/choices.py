"""What may happen to a run where it stands: by itself, by people, by the source, by time, by a crash.

Called by `explore`. One choice is usual: what happens when all is well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from engine.domain.gate import Check
from engine.domain.journey import Leg, LegKind
from engine.domain.ports import Ending
from engine.domain.states import Decision, RunState, Verdict
from engine.simulation.outside import Will
from engine.simulation.stage import Act, Seen, Stage

NOT_HELD = (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.ERROR)
A_MOMENT = timedelta(seconds=1)
ENDINGS = {
    "timed out": Will(ending=Ending.TIMED_OUT),
    "VM lost": Will(ending=Ending.VM_LOST),
    "killed by a signal": Will(ending=Ending.SIGNALLED),
    "stopped": Will(ending=Ending.CANCELLED),
}
RETURNED = {
    "failed": Will(code=1),
    "crash after it worked": Will(crash="after"),
    "never began": Will(ending=Ending.NOT_BEGUN),
    "crash before it worked": Will(crash="before"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """`usual`: what happens when all is well."""

    name: str
    act: Act
    usual: bool = False


def choices(stage: Stage, seen: Seen, *, again: bool = False) -> tuple[Choice, ...]:
    """Everything that may happen next; nothing once the run has ended.

    `again`: this leg's work was looked at in every way before, so one of each sort is enough: which check did not hold,
    or how exactly its end was not seen, makes no difference to where the run came from.
    """
    match seen.run.state:
        case RunState.QUEUED:
            found = _queued(stage, seen, again)
        case RunState.AWAITING_APPROVAL:
            found = _awaiting(stage, seen)
        case RunState.HALTED:
            found = _halted(seen)
        case _:
            return ()
    return (*found, *(() if again else _anywhere(seen)))


def _anywhere(seen: Seen) -> Iterator[Choice]:
    """What may happen wherever a run stands."""
    yield Choice("restart", Stage.restart)
    if seen.run.state is not RunState.HALTED:
        yield Choice("abandon", Stage.abandon)
    if seen.run.state is not RunState.QUEUED:
        yield Choice("more time", Stage.more_time)


def _driven(name: str, will: Will, *, usual: bool = False) -> Choice:
    return Choice(name, lambda stage: stage.drive(will), usual)


def _queued(stage: Stage, seen: Seen, again: bool) -> Iterator[Choice]:  # noqa: FBT001 - as of `choices`
    leg = stage.course.leg(seen.run.leg)
    match leg.kind:
        case LegKind.GATE:
            yield from _gate(leg, leg.checks[:1] if again else leg.checks)
        case LegKind.ATTEMPT:
            yield from _attempt(leg, 1 if again else len(ENDINGS))
        case LegKind.RECEIVE:
            yield from _attempt(stage.course.line[1], len(ENDINGS))  # nothing stands between them
        case _:
            yield _driven("goes on", Will(), usual=True)
    if leg.kind in {LegKind.GATE, LegKind.ATTEMPT} and not again:
        name = f"{leg.id}: abandoned while it runs"
        yield Choice(name, lambda stage: stage.drive(Will(meanwhile=stage.abandon)))
    if stage.course.changes(leg):
        yield from _before_a_change(stage, seen, leg)
    yield Choice("the deadline passes", lambda stage: _late(stage, seen))


def _late(stage: Stage, seen: Seen) -> None:
    stage.wait(seen.run.deadline_at + A_MOMENT)
    stage.drive(Will())


def _attempt(leg: Leg, unseen: int) -> Iterator[Choice]:
    yield _driven(f"{leg.id} ok", Will(), usual=True)
    for name, will in (*tuple(RETURNED.items())[: unseen + 1], *tuple(ENDINGS.items())[:unseen]):
        yield _driven(f"{leg.id}: {name}", will)


def _gate(leg: Leg, checks: Sequence[Check]) -> Iterator[Choice]:
    yield _driven(f"{leg.id} held", Will(), usual=True)
    for verdict in NOT_HELD:
        for check in checks:
            yield _driven(f"{leg.id}: {check.id} {verdict}", Will(check=check.id, verdict=verdict))
    yield _driven(f"{leg.id}: crash while it measures", Will(crash="while"))


def _before_a_change(stage: Stage, seen: Seen, leg: Leg) -> Iterator[Choice]:
    """What may come between a held gate and the change that it leads to."""
    gate = stage.course.gate_before(leg.id)
    if gate is not None:
        fresh = timedelta(seconds=gate.fresh_for_s)
        yield Choice(f"{gate.id} grows old", lambda stage: stage.wait(stage.outside.clock.moment + fresh + A_MOMENT))
    yield from _news(stage, seen, leg)


def _news(stage: Stage, seen: Seen, leg: Leg) -> Iterator[Choice]:
    """What changes outside while a change is near. One of them a path: none makes another less dangerous.

    And only until a protected target was changed: later the same is looked at by the same lines.
    """
    touched = any(stage.course.protected(stage.course.leg(change.leg)) for change in stage.outside.ledger.changes)
    if seen.resolved or stage.tampered or touched:
        return
    yield Choice("the source resolves", Stage.resolve)
    if not stage.course.protected(leg):
        return
    yield Choice("the image is built anew", Stage.build_image)
    yield Choice("the runbook on disk is edited", Stage.edit_runbook)


def _awaiting(stage: Stage, seen: Seen) -> Iterator[Choice]:
    leg = seen.run.leg
    yield Choice(f"approve {leg}", lambda stage: stage.approve(yes=True), usual=True)
    yield Choice(f"reject {leg}", lambda stage: stage.approve(yes=False))
    row = seen.pending
    if row is not None:
        until = row.expires_at + A_MOMENT
        yield Choice("nobody answers in time", lambda stage: stage.wait(until))
    yield from _news(stage, seen, stage.course.leg(leg))


def _halted(seen: Seen) -> Iterator[Choice]:
    row = seen.question
    if row is None:
        return
    for option in row.options:
        decision = Decision(option)
        name = f"decide: {decision.value.replace('_', ' ')}"
        yield Choice(name, lambda stage, decision=decision: stage.decide(decision))  # type: ignore[misc]  # bound now
    if row.expires_at is not None:
        until = row.expires_at + A_MOMENT
        yield Choice("nobody decides for a day", lambda stage: stage.wait(until))
