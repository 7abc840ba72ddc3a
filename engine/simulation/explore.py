"""Every path of a runbook, breadth first: each choice at each place that the real machine comes to.

Two paths that come to the same place (`_place`) are followed once: so it ends. Safety is looked at after each choice,
by what really happened outside (`ledger`), and each place that waits must have asked a person.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from engine.domain.journey import LegKind
from engine.domain.runbook import Snapshot
from engine.domain.states import FINAL, AttemptState, RunState, Verdict
from engine.simulation.choices import Choice, choices
from engine.simulation.ledger import Change
from engine.simulation.stage import Seen, Stage, World
from engine.store.memory import bring_back, kept, memory

log = structlog.get_logger()

MOST_CHOICES = 20_000
ROUND = 100
""" Choices between two words about how far it came. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A place that a run came to, by the shortest path. `asked`: the questions put to people on the way.

    `by`: number of the node before, what happened there, and whether that is usual; None for the first.
    """

    number: int
    state: RunState
    leg: str
    by: tuple[int, str, bool] | None
    asked: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What happened at `source`, and where the run came to. `first`: nobody had come there before.

    `changes`, `asked`: all of the path so far, which is not always the one by which its target was found.
    """

    source: int
    name: str
    usual: bool
    target: int
    first: bool
    changes: tuple[Change, ...]
    asked: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Something unsafe, and every choice on the way to it."""

    what: str
    path: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Exploration:
    """Everything that was found. `left`: places that were not looked at because it had become too much."""

    runbook: str
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    left: int = 0

    def path(self, number: int) -> tuple[tuple[str, bool], ...]:
        """The choices to a node, each with whether it is the usual one."""
        found: list[tuple[str, bool]] = []
        by = self.nodes[number].by
        while by is not None:
            found.append((by[1], by[2]))
            by = self.nodes[by[0]].by
        return tuple(reversed(found))


@dataclass(slots=True)
class _Explorer:
    stage: Stage
    most: int
    found: Exploration
    first_only: bool = False
    known: dict[Hashable, int] = field(default_factory=dict)
    todo: deque[tuple[int, Seen, bytes, World]] = field(default_factory=deque)
    looked_at: set[tuple[RunState, str]] = field(default_factory=set)

    def explore(self) -> None:
        self.stage.fire()
        seen = self.stage.seen()
        self._arrive(seen, None, ())
        while self.todo:
            if len(self.found.edges) >= self.most or (self.first_only and self.found.violations):
                self.found.left = len(self.todo)
                return
            number, seen, image, world = self.todo.popleft()
            here = (seen.run.state, seen.run.leg)
            again = here in self.looked_at
            self.looked_at.add(here)
            self._back(image, world)
            for choice in choices(self.stage, seen, again=again):
                self._back(image, world)
                self._choose(number, seen, choice)

    def _back(self, image: bytes, world: World) -> None:
        bring_back(self.stage.database, image)
        self.stage.put_back(world)

    def _choose(self, number: int, before: Seen, choice: Choice) -> None:
        wrong = len(self.stage.outside.ledger.wrong)
        try:
            choice.act(self.stage)
            seen = self.stage.seen()
        except Exception as error:  # noqa: BLE001 - the rim of a choice: whatever breaks the machine there is a finding
            name = choice.name or self.stage.outside.did or "it is driven"
            self._violated((number, name, choice.usual), f"the machine broke: {type(error).__name__}: {error}")
            return
        by = (number, choice.happened(self.stage, seen), choice.usual)
        self.stage.note_halt(seen.run.state)
        ledger = self.stage.outside.ledger
        for what in (*ledger.wrong[wrong:], *ledger.passed(self.stage.course, seen.run.leg), *_unasked(seen)):
            self._violated(by, what)
        if choice.usual and seen.run.version == before.run.version:
            self._violated(by, f"it hangs at {seen.run.leg}: {seen.run.waits_for or 'nobody knows why'}")
        asked = tuple(_asked(before, seen, self.stage.snapshot.runbook.escalate.to))
        asked = (*self.found.nodes[number].asked, *asked)
        target, first = self._arrive(seen, by, asked)
        edge = Edge(
            source=number,
            name=by[1],
            usual=choice.usual,
            target=target,
            first=first,
            changes=ledger.changes,
            asked=asked,
        )
        self.found.edges.append(edge)
        if len(self.found.edges) % ROUND == 0:
            log.debug("simulating", choices=len(self.found.edges), places=len(self.known), to_look_at=len(self.todo))

    def _arrive(self, seen: Seen, by: tuple[int, str, bool] | None, asked: tuple[str, ...]) -> tuple[int, bool]:
        """The node of where the run is now, and whether nobody had come there before."""
        place = _place(self.stage, seen)
        if place in self.known:
            return self.known[place], False
        number = self.known[place] = len(self.found.nodes)
        node = Node(number=number, state=seen.run.state, leg=seen.run.leg, by=by, asked=asked)
        self.found.nodes.append(node)
        if seen.run.state not in FINAL:
            self.todo.append((number, seen, kept(self.stage.database), self.stage.world()))
        return number, True

    def _violated(self, by: tuple[int, str, bool], what: str) -> None:
        path = (*(name for name, _ in self.found.path(by[0])), by[1])
        self.found.violations.append(Violation(what=what, path=path))


def simulate(
    snapshot: Snapshot, inputs: Mapping[str, str], most: int = MOST_CHOICES, *, first_only: bool = False
) -> Exploration:
    """Drive the real machine through every path of a runbook, at most so many choices.

    `first_only`: stop where something unsafe was found.
    """
    found = Exploration(runbook=snapshot.runbook.name)
    with memory() as database:
        _Explorer(Stage(database, snapshot, inputs), most, found, first_only).explore()
    found.violations += () if found.left else _endless(found)
    return found


# -- what must hold where a run waits


def _unasked(seen: Seen) -> Iterator[str]:
    """A run that waits has asked: one question, and people were told of it."""
    state = seen.run.state
    order, question = seen.pending, seen.question
    if (state is RunState.AWAITING_APPROVAL) != (order is not None):
        yield f"the run is {state}, and {'an order waits' if order else 'no order waits'} for a yes"
    if (state is RunState.HALTED) != (question is not None):
        yield f"the run is {state}, and {'a question stands' if question else 'no question stands'}"
    keys = [f"approval:{order.id}:requested"] if order else []
    keys += [f"escalation:{question.id}:raised"] if question else []
    keys += [f"run:{seen.run.id}:ended"] if state in FINAL else []
    yield from (f"nobody is told of {key.split(':')[0]} {key.split(':')[2]}" for key in keys if key not in seen.told)


def _asked(before: Seen, seen: Seen, mention: str) -> Iterator[str]:
    """Questions that are new."""
    known = {row.id for row in before.approvals} | {row.id for row in before.escalations}
    order = seen.pending
    if order is not None and order.id not in known:
        yield f"yes to a call of {order.leg}" if order.agent_call_id else f"yes to {order.leg}"
    yield from (mention for row in seen.escalations if row.id not in known)


def _endless(found: Exploration) -> Iterator[Violation]:
    """When nothing more goes wrong, every place leads to an end or to a question."""
    onward = {edge.source: edge.target for edge in found.edges if edge.usual}
    for node in found.nodes:
        here, passed = node.number, set()
        while found.nodes[here].state is RunState.QUEUED and here in onward:
            if here in passed:
                path = tuple(name for name, _ in found.path(node.number))
                yield Violation(what=f"it goes round for ever at {found.nodes[here].leg}", path=path)
                break
            passed.add(here)
            here = onward[here]


# -- when two paths have come to the same place


def _place(stage: Stage, seen: Seen) -> Hashable:
    """Everything that the machine looks at when it goes on, and what the ledger knows."""
    run = seen.run
    if run.state in FINAL:
        return run.state, run.leg, frozenset(stage.outside.ledger.changes)
    live, question = seen.live, seen.question
    behind = stage.course.behind(run.leg)
    changed = {row.leg for row in seen.attempts if row.changes and stage.journey.rollback_of(row.step)}
    return (
        run.state,
        run.leg,
        tuple(question.options) if question else (),
        (live.leg, live.state, live.content_digest, live.agent_call_id is None) if live else None,
        seen.talk or None,  # one without a call goes on as one that begins
        bool(changed),
        _finished(seen, behind),
        _gates(stage, seen, behind),
        seen.lost,
        sum(1 for row in seen.attempts if row.leg == run.leg and row.state is AttemptState.LOST),
        seen.resolved,
        (stage.outside.image, stage.outside.edited),
        stage.outside.ledger.stands(stage.course, run.leg, stage.outside.clock.moment),
    )


def _finished(seen: Seen, behind: frozenset[str]) -> frozenset[tuple[str, str]]:
    """What ended as it should; of changes the newest content, by which they count as tested."""
    finished = [row for row in seen.attempts if row.state is AttemptState.FINISHED]
    ended = {row.leg: row.content_digest if row.changes else "" for row in finished}
    return frozenset((leg, content) for leg, content in ended.items() if leg in behind)


def _gates(stage: Stage, seen: Seen, behind: frozenset[str]) -> frozenset[tuple[str, bool]]:
    """Which gates count as held; of the one where the run stands, whether it failed, and at the last try."""
    newest = {row.leg: row for row in seen.verdicts if not row.late}
    found = [(leg, row.verdict is Verdict.HELD) for leg, row in newest.items() if leg in behind]
    here = stage.course.leg(seen.run.leg)
    row = newest.get(here.id) if here.kind is LegKind.GATE else None
    if row is not None:
        ends = [one.ended_at for one in seen.attempts if one.leg == here.of and one.ended_at is not None]
        judged = not ends or row.begun_at >= ends[-1]
        found.append(("the last try failed", judged and row.verdict is Verdict.FAILED))
    return frozenset(found)
