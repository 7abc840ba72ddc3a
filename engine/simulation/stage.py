"""The real machine on a database, with everything around it played; one choice at a time. Called by `explore`."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engine.domain.agent import CallState
from engine.domain.errors import BadInput, Conflict, Refused
from engine.domain.harness import NoteDraft
from engine.domain.incident import IncidentView, Person
from engine.domain.journey import Journey, plan
from engine.domain.runbook import Snapshot
from engine.domain.states import ApprovalState, Decision, RunEvent, RunState
from engine.orchestration.adapters import Adapters
from engine.orchestration.claim import Claim
from engine.orchestration.driver import Driver
from engine.orchestration.performing import Running
from engine.orchestration.reaper import Reaper
from engine.orchestration.watch import Watch
from engine.service import People, Service
from engine.simulation.agents import SimulatedAgents
from engine.simulation.ledger import Course, Ledger
from engine.simulation.outside import (
    IMAGE,
    SOURCE,
    Crash,
    Outside,
    SimulatedGates,
    SimulatedProbeRunner,
    SimulatedRunner,
    SimulatedSecrets,
    SimulatedShelf,
    SimulatedSource,
    SimulatedVms,
    Will,
    directory,
)
from engine.store import conversations, incidents, models, outbox, questions, runs
from engine.store.session import Database

SOMEBODY = Person(id="somebody", name="somebody")
HERE = "here"
LASTS_S = 60.0


class NoHarness:
    """No notes are written in a simulation."""

    def number(self, at_least: int) -> int:
        """As asked."""
        return at_least

    def patch(self, note: NoteDraft, incident: IncidentView, journey: Journey) -> str:  # noqa: ARG002 - the port has it
        """None."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true outside the database at a moment; a path goes on from there."""

    now: datetime
    ledger: Ledger
    image: str
    edited: bool
    claim: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Where the run is, as its rows say.

    `lost`: measurements since the last verdict whose worker died. `told`: the keys of what people were told.
    `talk`: of the calls of an agent that goes on at the run's leg, where each is; None when none goes on.
    """

    run: models.Run
    attempts: tuple[models.Attempt, ...]
    verdicts: tuple[models.GateVerdict, ...]
    approvals: tuple[models.Approval, ...]
    escalations: tuple[models.Escalation, ...]
    resolved: bool
    lost: int
    told: frozenset[str]
    talk: tuple[CallState, ...] | None

    @property
    def pending(self) -> models.Approval | None:
        """The order that waits for a yes."""
        return next((row for row in self.approvals if row.state is ApprovalState.PENDING), None)

    @property
    def live(self) -> models.Approval | None:
        """The order in play."""
        return next((row for row in self.approvals if row.state in LIVE), None)

    @property
    def question(self) -> models.Escalation | None:
        """The halt that waits for a decision."""
        return next((row for row in self.escalations if row.decided is None and row.expired_at is None), None)


LIVE = (ApprovalState.PENDING, ApprovalState.APPROVED)


@dataclass(slots=True)
class Stage:
    """One run of one runbook. A process of Signalbox lives as long as nothing kills it."""

    database: Database
    snapshot: Snapshot
    inputs: Mapping[str, str]
    outside: Outside = field(init=False)
    journey: Journey = field(init=False)
    adapters: Adapters = field(init=False)
    run_id: str = ""
    _claim: Claim = field(init=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.journey = plan(self.snapshot.runbook)
        undoing = tuple(leg for line in self.journey.rollbacks for leg in line)
        course = Course(self.snapshot.runbook, self.journey.line, undoing)
        self.outside = Outside(self.snapshot, course, self.inputs, where=self._leg)
        places = directory(self.snapshot.runbook, self.inputs)
        self.adapters = Adapters(
            clock=self.outside.clock,
            triggers={SOURCE: SimulatedSource(self.outside)},
            shelf=SimulatedShelf(self.outside),
            hypervisor=SimulatedVms(self.outside),
            runner=SimulatedRunner(self.outside),
            probe_runner=SimulatedProbeRunner(),
            secrets=SimulatedSecrets(),
            gate_kinds=SimulatedGates(self.outside).kinds,
            directory=lambda: places,
            agents=SimulatedAgents(asks=lambda: self.outside.will.asks, called=self._called),
        )
        self._new_process()

    @property
    def course(self) -> Course:
        """What must come before what."""
        return self.outside.course

    # -- moments

    def world(self) -> World:
        """What a path needs beside the database to go on from here."""
        here = self.outside
        return World(
            now=here.clock.moment,
            ledger=here.ledger,
            image=here.image,
            edited=here.edited,
            claim=self._claim.id,
            run_id=self.run_id,
        )

    def put_back(self, world: World) -> None:
        """As it was; the database is brought back by the caller."""
        here = self.outside
        here.clock.moment, here.ledger, here.image, here.edited = world.now, world.ledger, world.image, world.edited
        self._claim.id, self.run_id = world.claim, world.run_id

    def seen(self) -> Seen:
        """Everything about the run."""
        with self.database.reading() as session:
            run = runs.get(session, self.run_id)
            talk = conversations.open_one(session, run.id, run.leg)
            return Seen(
                run=run,
                attempts=runs.attempts(session, run.id),
                verdicts=runs.verdicts(session, run.id),
                approvals=questions.approvals(session, run.id),
                escalations=questions.escalations(session, run.id),
                resolved=incidents.resolved_at(session, run.incident_number) is not None,
                lost=len(incidents.kinds_since_last_verdict(session, run.id, [RunEvent.JUDGING_LOST.value])),
                told=outbox.keys(session),
                talk=tuple(row.state for row in conversations.calls(session, talk.id)) if talk else None,
            )

    # -- what can be done

    def fire(self) -> None:
        """The alert comes in, and its run is opened."""
        self._receive("firing")
        with self.database.reading() as session:
            opened = runs.queued(session)
        if not opened:
            raise BadInput("the alert opened no run", "look at the runbook's trigger and inputs")
        self.run_id = opened[-1].id

    def drive(self, will: Will) -> None:
        """A worker takes the run up, does the next work as `will` says, and goes no further than the boundary."""
        here = self.outside
        driver = self._driver()
        here.will, here.samples, here.did, here.worked = will, [], "", driver.stop
        try:
            driver.drive(self.run_id)
        except Crash:
            self.restart()
            return
        measured = self.course.measured(here.samples, here.did) if here.samples else None
        if measured is not None:
            here.ledger = here.ledger.measured(measured[0], here.clock.now(), held=measured[1])

    def restart(self) -> None:
        """The process dies, and another one comes up: it finds what the first one left behind."""
        self._new_process()
        Reaper(self.database, self.adapters, self._claim).recover()

    def approve(self, *, yes: bool) -> None:
        """Somebody answers the order that waits for a yes."""
        row = self.seen().pending
        if row is None:
            raise Conflict("nothing waits for a yes")
        with contextlib.suppress(Refused):  # void: the order is not what was shown; that is committed
            self._service().approve(row.token, SOMEBODY, yes=yes)
            if yes:
                ledger = self.outside.ledger
                given = ledger.allowed if row.agent_call_id else ledger.approved
                self.outside.ledger = given(row.leg, self.outside.image)

    def decide(self, decision: Decision) -> None:
        """Somebody decides for the halted run."""
        row = self.seen().question
        if row is None:
            raise Conflict("nothing waits for a decision")
        self._service().decide(row.token, SOMEBODY, decision)
        self.outside.ledger = self.outside.ledger.decided(decision)

    def more_time(self) -> None:
        """Somebody puts a question off."""
        seen = self.seen()
        row = seen.pending or seen.question
        if row is not None:
            with contextlib.suppress(Conflict):  # its evidence would grow too old: it stays as it is
                self._service().extend(row.token, SOMEBODY)

    def abandon(self) -> None:
        """Somebody ends the run."""
        self._service().abandon(self.seen().run.incident_number, SOMEBODY, "simulated")

    def resolve(self) -> None:
        """The source says that it is over."""
        self._receive("resolved")
        self.outside.ledger = self.outside.ledger.resolved()

    def wait(self, until: datetime) -> None:
        """Time passes, and whoever looks at the clock looks."""
        self.outside.clock.moment = max(until, self.outside.clock.moment)
        Watch(self.database, self.adapters).look_at_the_clock()

    def build_image(self) -> None:
        """Somebody builds the guest image anew."""
        self.outside.image = "another"

    def edit_runbook(self) -> None:
        """Somebody edits the runbook on disk."""
        self.outside.edited = True

    @property
    def tampered(self) -> bool:
        """Whether anything is not as it was at the beginning."""
        return self.outside.edited or self.outside.image != IMAGE

    def note_halt(self, state: RunState) -> None:
        """What the ledger must know of where the run came to."""
        if state is RunState.HALTED:
            self.outside.ledger = self.outside.ledger.halted()

    # -- within

    def _called(self, leg: str) -> None:
        self.outside.ledger = self.outside.ledger.called(leg, self.outside.image)

    def _leg(self) -> str:
        with self.database.reading() as session:
            return runs.get(session, self.run_id).leg

    def _receive(self, body: str) -> None:
        self._service().receive(SOURCE, {}, body.encode())
        Watch(self.database, self.adapters).drain()

    def _new_process(self) -> None:
        self._claim = Claim(
            self.database, f"process-{next(self._numbers)}", HERE, self.snapshot.runbook.pool, 1, LASTS_S
        )
        self._claim.join(self.outside.clock.now())

    def _driver(self) -> Driver:
        return Driver(self.database, self.adapters, Running(self.adapters), self._claim)

    def _service(self) -> Service:
        watch = Watch(self.database, self.adapters)
        return Service(self.database, self.adapters, watch, None, People(approvers=(SOMEBODY.id,)), NoHarness())


Act = Callable[[Stage], object]
