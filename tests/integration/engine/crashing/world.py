"""An installation in a world that goes wrong: processes that die and come back, people who answer, time that passes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from structlog.testing import capture_logs

from engine.domain.errors import BadInput, Conflict, NotAllowed, Refused, Unavailable
from engine.domain.journey import plan
from engine.domain.states import AttemptState
from engine.orchestration.adapters import Adapters
from engine.orchestration.journal import Journal
from engine.orchestration.watch import Watch
from engine.orchestration.worker import Worker
from engine.service import People, Service
from engine.store import models, switch
from engine.store.session import Database
from engine.store.wakeups import WakeUp
from engine.wiring import make_worker
from tests.doubles.chaos import At, Chaos, Fault, Killed, Kind
from tests.doubles.engine import FakeClock, FakeHarness, FakeProbeRunner, FakeRunner, FakeShelf, FakeTrigger
from tests.doubles.outside import MintingSecrets, Outside, PlannedGates, VmHost
from tests.doubles.toy import directory, toy_runbook
from tests.integration.engine.conftest import ANA, BEN
from tests.integration.engine.crashing.invariants import ALWAYS, wrong
from tests.integration.engine.crashing.seen import Heard, Seen, look

RUNBOOK = replace(toy_runbook(), alertnames=("ToyBroken", "ToySlow"))
""" Two alerts that want the same targets. """
ANSWERED_WITH_AN_ERROR = (Conflict, NotAllowed, Refused, BadInput, Unavailable)
MOST_WAKE_UPS = 200
LONG_S = 1e6
DIES = "drive and die"
""" What another process may do meanwhile: it goes as far as its first gate, and is gone. """


@dataclass
class Process:
    """The bot and a worker. What they hold in memory dies with them. `slept_s`: how long it was paused."""

    database: Database
    name: str
    host: str
    watch: Watch
    worker: Worker
    service: Service
    slept_s: float = 0.0


class ByHand:
    """A carrier whose wake-ups the test takes."""

    def start(self) -> None:
        """Nothing begins by itself."""

    def stop(self, timeout_s: float) -> None:
        """Nothing ran."""


Deed = Callable[["World", Process], object]


@dataclass
class World:
    """`databases`: one pool of connections a process (SQLite has one process). `hosts`: where each lives.

    `observer` sees the same database without ever being struck. `meanwhile`: what a fault's `then` may name.
    """

    databases: tuple[Database, ...]
    observer: Database
    chaos: Chaos
    hosts: tuple[str, ...]
    meanwhile: Mapping[str, Deed]
    clock: FakeClock = field(default_factory=FakeClock)
    shelf: FakeShelf = field(default_factory=lambda: FakeShelf(RUNBOOK))
    heard: Heard = field(default_factory=Heard)
    processes: list[Process] = field(default_factory=list)
    logs: list[Mapping[str, object]] = field(default_factory=list)
    _acting: int = 0
    _woken: dict[str, None] = field(default_factory=dict)
    _names: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.outside = Outside(self.clock, self.chaos, RUNBOOK, plan(RUNBOOK), self._holder, self._forbidden)
        self.chaos.meanwhile = self._meanwhile
        for number, (database, host) in enumerate(zip(self.databases, self.hosts, strict=True)):
            database.on_wake = self._wake
            self.processes.append(self._process(database, host))
            self._come_up(number)

    @property
    def is_shared(self) -> bool:
        """Whether several processes work on the database."""
        return self.observer.is_shared

    def look(self) -> Seen:
        """Everything as it is now."""
        return look(self.observer, self.outside, self.heard)

    # -- processes

    def _process(self, database: Database, host: str) -> Process:
        name = f"{host}-{next(self._names)}"
        places = directory()
        adapters = Adapters(
            clock=self.clock,
            triggers={"fake": FakeTrigger()},
            shelf=self.shelf,
            hypervisor=VmHost(self.outside, host, name),
            runner=FakeRunner(),
            probe_runner=FakeProbeRunner(),
            secrets=MintingSecrets(self.outside, Journal(database, self.clock)),
            gate_kinds=PlannedGates(self.outside).kinds,
            directory=lambda: places,
        )
        worker = make_worker(
            database, adapters, url="", process=name, host=host, pool="default", concurrency=1, lasts_s=LONG_S
        )
        worker.carrier = lambda _drive: ByHand()
        watch = Watch(database, adapters)
        people = People(approvers=(ANA.id, BEN.id))
        service = Service(database, adapters, watch, worker, people, FakeHarness())
        process = Process(database, name, host, watch, worker, service)
        worker.claim.elapsed = lambda: process.slept_s
        return process

    def _come_up(self, number: int) -> None:
        """What `Worker.start` does, and the first round of its reaper."""
        process = self.processes[number]
        process.worker.claim.join(self.clock.now())
        process.worker._recover_then_reap()

    def die(self, number: int, fault: Fault | None = None) -> None:
        """The process is gone, and another one comes up in its place, at which `fault` may strike."""
        old = self.processes[number]
        if not self.is_shared:
            self._woken.clear()
        self.processes[number] = self._process(old.database, old.host)
        up = self.do(number, lambda _process: self._come_up(number), fault)
        if not up and not self.processes[number].worker.claim.id:
            self._come_up(number)  # the database is back

    def claims_end(self) -> None:
        """So much time passed that whoever died without a word counts as dead."""
        living = [process.worker.claim.id for process in self.processes]
        self._end_claims(models.Worker.id.not_in(living))

    def _end_claims(self, which: sa.ColumnElement[bool]) -> None:
        if self.is_shared:  # SQLite: who lives is told by the lock of the file
            with self.observer.transaction() as session:
                long_ago = sa.func.clock_timestamp() - sa.text("interval '1 hour'")
                session.execute(sa.update(models.Worker).where(which).values(alive_until=long_ago))

    # -- wake-ups

    def _wake(self, wake_up: WakeUp) -> None:
        self._woken[wake_up.run_id] = None

    def _next_woken(self) -> str | None:
        """Take a wake-up: whoever dies with it has lost it."""
        if not self.is_shared:
            return self._woken.popitem()[0] if self._woken else None
        with self.observer.engine.begin() as connection:
            job = "SELECT id FROM procrastinate_jobs ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED"
            taken = f"DELETE FROM procrastinate_jobs WHERE id = ({job}) RETURNING args->>'run_id'"  # noqa: S608
            found: str | None = connection.exec_driver_sql(taken).scalar()
            return found

    def drive(self, process: Process) -> None:
        """Drive what was woken, until nothing is."""
        for _ in range(MOST_WAKE_UPS):
            run_id = self._next_woken() if process.worker._taking is not None else None
            if run_id is None:
                return
            process.worker.driver.woken(run_id)
        raise AssertionError("wake-ups without end")

    # -- what is done

    def do(self, number: int, deed: Callable[[Process], object], fault: Fault | None = None) -> bool:
        """This process does something; False when it died of it, or when it answered with an error."""
        process, self._acting = self.processes[number], number
        done, killed = True, False
        with capture_logs() as logs:
            try:
                with self.chaos.armed(fault):
                    deed(process)
            except Killed:
                done, killed = False, True
            except ANSWERED_WITH_AN_ERROR:
                done = False
            if process.slept_s and not killed:
                process.worker._beat()  # what its thread does first when it goes on
                process.slept_s = 0.0
        self.logs.extend(logs)
        if killed:
            self.die(number)
        return done

    def send(self, number: int, body: str, fault: Fault | None = None) -> None:
        """A source sends a body, and again until it hears that it was accepted."""
        headers = {"Authorization": "Bearer token"}

        def receive(process: Process) -> None:
            process.service.receive("fake", headers, body.encode())

        while not self.do(number, receive, fault):
            fault = None
        before = [kept for kept in self.heard.bodies if kept.split()[0] == body.split(maxsplit=1)[0]]
        if before[-1:] != [body]:
            self.heard.bodies.append(body)

    def _meanwhile(self, fault: Fault) -> None:
        """What others do while the process that a fault strikes is paused, or is as fast."""
        number, where = self._acting, self.chaos.struck
        struck = self.processes[number]
        if fault.kind is Kind.PAUSE:
            struck.slept_s = 2 * LONG_S
            self._end_claims(models.Worker.id == struck.worker.claim.id)
        other = 1 - number if self.is_shared else number
        for name in ("round", *fault.then) if fault.kind is Kind.PAUSE else fault.then:  # first somebody takes over
            if name == DIES and fault.kind is Kind.PAUSE:
                self.do(other, self.drive, Fault(Kind.KILL, 0, At.GATE))
                self._acting, self.chaos.struck = number, where
                continue
            with contextlib.suppress(*ANSWERED_WITH_AN_ERROR):
                self.meanwhile[name](self, self.processes[other])
        seen = self.look()  # what ended by now must stay as it ended
        if fault.kind is Kind.PAUSE:  # and while somebody is paused, no less holds than at other times
            self.outside.wrong.extend(wrong(seen, ALWAYS))

    # -- facts

    def _holder(self, host: str) -> str | None:
        with self.observer.reading() as session:
            lock = session.get(models.TargetLock, host)
            return lock.run_id if lock else None

    def _forbidden(self, attempt_id: str) -> str:
        with self.observer.reading() as session:
            attempt = session.get(models.Attempt, attempt_id)
            if attempt is None or attempt.state is not AttemptState.STARTED:
                return "it was given up, or nobody started it"
            worker = session.get(models.Worker, attempt.worker)
            if worker is None or worker.ended_at is not None:
                return "its worker was declared dead"
            return "the kill switch is on" if switch.read(session).on else ""
