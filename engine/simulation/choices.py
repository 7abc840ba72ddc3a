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
from engine.domain.states import FINAL, Decision, RunState, Verdict
from engine.simulation.agents import may_ask
from engine.simulation.ledger import SLACK
from engine.simulation.outside import Will
from engine.simulation.stage import Act, Seen, Stage

NOT_HELD = (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.ERROR)
A_MOMENT = timedelta(seconds=1)
OLD = SLACK + A_MOMENT
UNSEEN = {
    Ending.TIMED_OUT: "timed out",
    Ending.VM_LOST: "VM lost",
    Ending.SIGNALLED: "killed by a signal",
    Ending.CANCELLED: "stopped",
    Ending.NOT_BEGUN: "never began",
}
WILLS = (
    Will(code=1),
    Will(crash="after"),
    Will(ending=Ending.TIMED_OUT),
    Will(ending=Ending.NOT_BEGUN),
    Will(crash="before"),
    Will(ending=Ending.VM_LOST),
    Will(ending=Ending.SIGNALLED),
    Will(ending=Ending.CANCELLED),
)
""" How an attempt may end that does not go well; the first three of them are of different sorts. """
SORTS = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """`usual`: what happens when all is well. `will`: of one that lets a worker drive the run."""

    name: str
    act: Act
    usual: bool = False
    will: Will | None = None

    def happened(self, stage: Stage, seen: Seen) -> str:
        """What it came to be: the machine decides whether a step or the gate before it is next, or neither."""
        if self.will is None:
            return self.name
        did = stage.outside.did
        if not did:
            ended = seen.run.state in FINAL
            return f"{seen.run.leg}: {'the end' if ended else 'not begun'}"
        return f"{did}: {_told(self.will, stage.course.leg(did))}"


def _told(will: Will, leg: Leg) -> str:
    if leg.kind is LegKind.GATE:
        found = f"{will.check} {will.verdict}" if will.check else "held"
        return "crash while it measures" if will.crash else found
    if will.crash:
        return f"crash {will.crash} it worked"
    if will.asks:
        return "asks about a call"
    if will.ending is Ending.EXITED:
        return "failed" if will.code else "ok"
    return UNSEEN[will.ending]


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
    yield Choice(f"{seen.run.leg}: restart", Stage.restart)
    if seen.run.state is not RunState.HALTED:
        yield Choice(f"{seen.run.leg}: abandon", Stage.abandon)
    if seen.run.state is not RunState.QUEUED:
        yield Choice(f"{seen.run.leg}: more time", Stage.more_time)


def _driven(will: Will, *, usual: bool = False) -> Choice:
    return Choice("", lambda stage: stage.drive(will), usual, will)


def _queued(stage: Stage, seen: Seen, again: bool) -> Iterator[Choice]:
    leg = stage.course.leg(seen.run.leg)
    yield _driven(Will(), usual=True)
    if leg.kind is LegKind.GATE:
        yield from _gate(leg.checks[:1] if again else leg.checks)
    elif leg.kind in {LegKind.ATTEMPT, LegKind.RECEIVE}:  # nothing stands between receiving and the first attempt
        yield from map(_driven, WILLS[:SORTS] if again else WILLS)
        if may_ask(leg) and not seen.talk:
            yield _driven(Will(asks=True))
    if leg.kind in {LegKind.GATE, LegKind.ATTEMPT} and not again:
        name = f"{leg.id}: abandoned while it runs"
        yield Choice(name, lambda stage: stage.drive(Will(meanwhile=stage.abandon)))
    if stage.course.changes(leg):
        yield from _before_a_change(stage, seen, leg)
    elif seen.live is not None:  # a yes to a call, not used yet
        yield from _news(stage, seen, leg)
    yield Choice(f"{seen.run.leg}: the deadline passes", lambda stage: _late(stage, seen))


def _late(stage: Stage, seen: Seen) -> None:
    stage.wait(seen.run.deadline_at + A_MOMENT)
    stage.drive(Will())


def _gate(checks: Sequence[Check]) -> Iterator[Choice]:
    for verdict in NOT_HELD:
        yield from (_driven(Will(check=check.id, verdict=verdict)) for check in checks)
    yield _driven(Will(crash="while"))


def _before_a_change(stage: Stage, seen: Seen, leg: Leg) -> Iterator[Choice]:
    """What may come between a held gate and the change that it leads to."""
    gate = stage.course.gate_before(leg.id)
    if gate is not None:
        fresh = timedelta(seconds=gate.fresh_for_s)
        yield Choice(f"{gate.id} grows old", lambda stage: stage.wait(stage.outside.clock.moment + fresh + OLD))
    yield from _news(stage, seen, leg)


def _news(stage: Stage, seen: Seen, leg: Leg) -> Iterator[Choice]:
    """What changes outside while a change is near. One of them a path: none makes another less dangerous.

    And only until a protected target was changed: later the same is looked at by the same lines.
    """
    touched = any(stage.course.protected(stage.course.leg(change.leg)) for change in stage.outside.ledger.changes)
    if seen.resolved or stage.tampered or touched:
        return
    yield Choice(f"{leg.id}: the source resolves", Stage.resolve)
    if not stage.course.protected(leg):
        return
    yield Choice(f"{leg.id}: the image is built anew", Stage.build_image)
    yield Choice(f"{leg.id}: the runbook on disk is edited", Stage.edit_runbook)


def _awaiting(stage: Stage, seen: Seen) -> Iterator[Choice]:
    leg = seen.run.leg
    yield Choice(f"{leg}: approve", lambda stage: stage.approve(yes=True), usual=True)
    yield Choice(f"{leg}: reject", lambda stage: stage.approve(yes=False))
    row = seen.pending
    if row is not None:
        until = row.expires_at + A_MOMENT
        yield Choice(f"{leg}: nobody answers in time", lambda stage: stage.wait(until))
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
        yield Choice(f"{seen.run.leg}: nobody decides for a day", lambda stage: stage.wait(until))
