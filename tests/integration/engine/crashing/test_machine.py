"""The real machine on real databases, struck between any two statements, whatever people, sources and time do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from engine.domain.incident import Person
from engine.domain.ports import Ending
from engine.domain.states import Decision, RunState, Verdict
from engine.store import migrate
from engine.store.session import Database
from tests.doubles.chaos import At, Chaos, Fault, Kind
from tests.doubles.outside import RAISES
from tests.integration.engine.conftest import ANA, BEN, CLEO
from tests.integration.engine.crashing import deeds
from tests.integration.engine.crashing.emptying import empty
from tests.integration.engine.crashing.invariants import ALWAYS, SETTLED, wrong
from tests.integration.engine.crashing.seen import Seen
from tests.integration.engine.crashing.world import Deed, World

NAMES, STATUSES = ("ToyBroken", "ToySlow", "Unrelated"), ("firing", "firing", "resolved", "nonsense")
BODIES = tuple(f"{name} {status}" for name in NAMES for status in STATUSES)
LEGS = ("diagnose", "fix", "staging:rehearse", "staging:rollback", "staging", "production", "production:rollback")
CHECKS = ("confirmed-inside", "undone-outside", "tests-inside", "healthy-outside")
ENDINGS = ("exit 1", Ending.VM_LOST.value, Ending.TIMED_OUT.value)
FOUND = (Verdict.FAILED.value, Verdict.INCONCLUSIVE.value, Verdict.ERROR.value, RAISES)
SECONDS = (1, 3, 20, 70, 400, 1300, 2000, 4000, 90_000)
DECISIONS = (
    Decision.RETRY,
    Decision.RETRY,
    Decision.ROLL_BACK,
    Decision.ROLL_BACK,
    Decision.TAKE_OVER,
    Decision.ABANDON,
)
STARTS: tuple[tuple[Deed, ...], ...] = (
    (),
    (deeds.drive, deeds.approve),
    (deeds.drive, deeds.approve, deeds.break_production, deeds.carry_on),
)

who = st.integers(0, 1)
alerts = st.lists(st.sampled_from(BODIES), min_size=1, max_size=3)
mostly = st.sampled_from((True, True, True, False))
somewhere = st.tuples(st.integers(0, 250), st.none())
there = st.tuples(st.integers(0, 8), st.sampled_from((At.COMMIT, At.ANSWER, At.GATE, At.SECRET, At.LIBVIRT)))
in_a_vm = st.tuples(st.integers(0, 6), st.just(At.VM))
others = st.lists(st.sampled_from([*sorted(deeds.MEANWHILE), "drive", "drive", "drive"]), min_size=1, max_size=3).map(
    tuple
)


def strikes(*kinds: Kind) -> st.SearchStrategy[Fault]:
    """One of these somewhere."""

    def struck(kind: Kind, point: tuple[int, At | None], then: tuple[str, ...]) -> Fault:
        return Fault(kind, *point, then if kind in {Kind.PAUSE, Kind.RACE} else ())

    return st.builds(struck, st.sampled_from(kinds), in_a_vm | there | somewhere, others)


def faults(*kinds: Kind) -> st.SearchStrategy[Fault | None]:
    """Nothing, or one of these somewhere."""
    return st.none() | strikes(*kinds)


any_fault = faults(*Kind)
dead_or_cut = faults(Kind.KILL, Kind.CUT)
overtaken = st.builds(Fault, st.just(Kind.RACE), st.integers(0, 10), st.just(At.STATEMENT), st.just(("watch",)))
plans: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}),
    st.just({}),
    st.dictionaries(st.sampled_from(LEGS), st.sampled_from(ENDINGS), min_size=1, max_size=1),
    st.dictionaries(st.sampled_from(CHECKS), st.sampled_from(FOUND), min_size=1, max_size=1),
    st.sampled_from(({"vault": "down"}, {"libvirt": "down"}, {"image": "another"})),
)


@dataclass(frozen=True, slots=True)
class Work:
    """Which worker drives, what does not go well in it, what strikes. `pushed`: people see to it that it has work."""

    number: int
    plan: dict[str, str]
    fault: Fault | None
    pushed: bool


works = st.builds(Work, who, plans, strikes(*Kind) | strikes(*Kind) | any_fault, mostly)


@dataclass
class Ground:
    """One migrated database, and the connections of those who work on it."""

    databases: tuple[Database, ...]
    observer: Database
    chaos: Chaos

    def close(self) -> None:
        for database in (*self.databases, self.observer):
            database.close()


@pytest.fixture
def ground(url: str) -> Iterator[Ground]:
    observer = Database(url)
    migrate.upgrade(observer)
    workers = 2 if observer.is_shared else 1
    made = Ground(tuple(Database(url) for _ in range(workers)), observer, Chaos())
    for database in made.databases:
        made.chaos.watch(database.engine)
        if not observer.is_shared:  # no power cut here, so no disk need be waited for
            sa.event.listen(
                database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
            )
    yield made
    made.close()


class Machine(RuleBasedStateMachine):
    """Rules are what happens; every deed may be struck by a fault.

    No rule has a precondition: what a race leaves is not the same each time, and Hypothesis must be able to repeat it.
    """

    ground: Ground
    world: World
    seen: Seen

    @initialize(apart=st.booleans(), start=st.sampled_from(STARTS), work=works)
    def begin(self, apart: bool, start: tuple[Deed, ...], work: Work) -> None:
        """Two workers on one host, or on two (only its own can destroy a VM); SQLite has one."""
        empty(self.ground.observer.engine)
        hosts = ("here", "there" if apart else "here")[: len(self.ground.databases)]
        self.world = World(self.ground.databases, self.ground.observer, self.ground.chaos, hosts, deeds.MEANWHILE)
        self.world.send(0, BODIES[0])
        for deed in (deeds.watch, *start):
            self.do(0, deed)
        self.go(work)

    def do(self, number: int, deed: Deed, fault: Fault | None = None) -> None:
        number %= len(self.world.processes)
        if fault is not None and fault.kind is Kind.PAUSE and not self.world.is_shared:
            fault = replace(fault, kind=Kind.RACE)  # nobody takes over from the only one
        self.world.do(number, lambda process: deed(self.world, process), fault)

    def go(self, work: Work) -> None:
        """A worker drives what was woken; in it, this does not go well, and that strikes."""
        if work.pushed and not any(run.state is RunState.QUEUED for run in self.world.look().runs):
            self.do(work.number, deeds.carry_on)
        self.world.outside.plan = work.plan
        deeds.vault(self.world, up="vault" not in work.plan)
        deeds.libvirt(self.world, up="libvirt" not in work.plan)
        image = self.world.outside.image
        self.world.outside.image = work.plan.get("image", "").encode() or image
        self.do(work.number, deeds.drive, work.fault)
        self.world.outside.plan, self.world.outside.image = {}, image
        deeds.vault(self.world, up=True)
        deeds.libvirt(self.world, up=True)

    # -- machines

    @rule(work=works)
    def drive(self, work: Work) -> None:
        self.go(work)

    @rule(number=who, fault=any_fault, work=works)
    def round(self, number: int, fault: Fault | None, work: Work) -> None:
        self.do(number, deeds.one_round, fault)
        self.go(work)

    @rule(number=who, fault=dead_or_cut, noticed=st.booleans(), worked=st.booleans())
    def restart(self, number: int, fault: Fault | None, noticed: bool, worked: bool) -> None:
        """Somebody kills it. The others notice at once, or later; meanwhile its VMs may get on with it."""
        if worked:
            self.world.outside.orphans_work()
        self.world.die(number % len(self.world.processes), fault)
        if noticed:
            self.world.claims_end()

    @rule(seconds=st.sampled_from(SECONDS), number=who, fault=any_fault, work=works)
    def time_passes(self, seconds: int, number: int, fault: Fault | None, work: Work) -> None:
        self.world.clock.pass_time(seconds=seconds)
        self.world.outside.grow_older()
        self.world.claims_end()
        self.do(number, deeds.watch, fault)
        self.go(work)

    @rule(change=st.sampled_from(sorted(deeds.CHANGES)))
    def world_changes(self, change: str) -> None:
        deeds.CHANGES[change](self.world)

    @rule(number=who, fault=any_fault, work=works)
    def carry_on(self, number: int, fault: Fault | None, work: Work) -> None:
        self.do(number, deeds.carry_on, fault)
        self.go(work)

    # -- sources and people

    @rule(bodies=alerts, number=who, fault=dead_or_cut, struck=any_fault | overtaken, work=works)
    def alerts_come(
        self, bodies: list[str], number: int, fault: Fault | None, struck: Fault | None, work: Work
    ) -> None:
        for body in bodies:
            self.world.send(number % len(self.world.processes), body, fault)
        self.do(number, deeds.watch, struck)
        self.go(work)

    @rule(yes=mostly, person=st.sampled_from((ANA, ANA, BEN, CLEO)), number=who, fault=any_fault, work=works)
    def approve(self, yes: bool, person: Person, number: int, fault: Fault | None, work: Work) -> None:
        self.do(number, lambda world, process: deeds.approve(world, process, yes=yes, person=person), fault)
        self.go(work)

    @rule(decision=st.sampled_from(DECISIONS), which=who, number=who, fault=any_fault, work=works)
    def decide(self, decision: Decision, which: int, number: int, fault: Fault | None, work: Work) -> None:
        self.do(number, lambda world, process: deeds.decide(world, process, decision, which), fault)
        self.go(work)

    @rule(deed=st.sampled_from(("put off", "switch", "abandon", "declare")), number=who, fault=any_fault)
    def interfere(self, deed: str, number: int, fault: Fault | None) -> None:
        self.do(number, deeds.MEANWHILE[deed], fault)

    # -- what holds

    @invariant()
    def holds(self) -> None:
        self.seen = self.world.look()
        assert wrong(self.seen, ALWAYS) == []
        defects = [entry for entry in self.world.logs if entry["log_level"] == "error" and "exc_info" in entry]
        assert defects == []

    def teardown(self) -> None:
        if hasattr(self, "seen"):
            deeds.settle(self.world)
            self.holds()
            assert wrong(self.seen, SETTLED) == []


def play(ground: Ground, examples: int, *, repeatable: bool) -> None:
    """So many lives of an installation, each settled at its end."""

    class Here(Machine):
        pass

    Here.ground = ground
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            derandomize=repeatable,
            database=None,
            print_blob=True,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=tuple(HealthCheck),
        ),
    )


@pytest.mark.timeout(300)
def test_whatever_strikes_nothing_unsafe_happens(ground: Ground) -> None:
    play(ground, 25, repeatable=True)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_whatever_strikes_two_thousand_times_nothing_unsafe_happens(ground: Ground) -> None:
    play(ground, 2000, repeatable=False)
