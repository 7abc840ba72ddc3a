"""The real machine on real databases, with adapters of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from engine.domain.directory import Directory
from engine.domain.incident import IncidentView, Person, RunView
from engine.domain.states import RunState
from engine.orchestration.adapters import Adapters
from engine.orchestration.driver import Driver
from engine.orchestration.watch import Watch
from engine.orchestration.worker import Worker
from engine.service import People, Service
from engine.store import claims, migrate
from engine.store.session import Database
from engine.wiring import make_worker
from tests.doubles.engine import (
    FakeClock,
    FakeGates,
    FakeHarness,
    FakeHypervisor,
    FakeProbeRunner,
    FakeRunner,
    FakeSecrets,
    FakeShelf,
    FakeTrigger,
)
from tests.doubles.played_agents import FakeAgents, call, with_agent
from tests.doubles.toy import directory
from tests.services.postgres import Postgres

ANA = Person(id="UANA", name="Ana")
BEN = Person(id="UBEN", name="Ben")
CLEO = Person(id="UCLEO", name="Cleo")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real Postgres of this test run's own."""
    with Postgres.started() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@dataclass
class Box:
    """One installation of Signalbox with fakes around it, driven by hand."""

    database: Database
    clock: FakeClock
    shelf: FakeShelf
    hypervisor: FakeHypervisor
    runner: FakeRunner
    secrets: FakeSecrets
    gates: FakeGates
    directory: Directory
    adapters: Adapters
    watch: Watch = field(init=False)
    worker: Worker = field(init=False)
    service: Service = field(init=False)
    starts: int = 0

    def start(self) -> None:
        """A process comes up on this database; the one before it is dead."""
        self.starts += 1
        with self.database.transaction() as session:
            claims.end_all_others(session, "")
        self.watch = Watch(self.database, self.adapters)
        self.worker = make_worker(
            self.database,
            self.adapters,
            url="never connected",
            process=f"test-{self.starts}",
            host="here",
            pool="default",
            concurrency=1,
            lasts_s=60,
        )
        self.worker.claim.join(self.clock.now())
        people = People(approvers=("UANA", "UBEN"))
        self.service = Service(self.database, self.adapters, self.watch, self.worker, people, FakeHarness())

    @property
    def driver(self) -> Driver:
        """What drives runs here."""
        return self.worker.driver

    def fire(self, body: bytes = b"ToyBroken firing") -> None:
        """An alert comes in and is worked off."""
        self.service.receive("fake", {"Authorization": "Bearer token"}, body)
        self.watch.drain()

    def go(self) -> None:
        """Drive whatever is queued until everything waits, halted or ended."""
        for view in self.service.incidents():
            for run in self.service.incident(view.number).runs:
                if run.state is RunState.QUEUED:
                    self.driver.drive(run.id)

    def incident(self) -> IncidentView:
        """The newest incident."""
        return self.service.incident(self.service.incidents()[0].number)

    def run(self) -> RunView:
        """The newest run of the newest incident."""
        return self.incident().runs[-1]

    def until_approval(self) -> str:
        """Up to the question; returns its token."""
        self.fire()
        self.go()
        run = self.run()
        assert run.state is RunState.AWAITING_APPROVAL, run.escalations
        return run.approvals[-1].token

    def restart(self) -> None:
        """The process died and came up again, on the same database."""
        self.start()
        assert self.worker.reaper.recover()

    def round(self) -> None:
        """What the threads of the process do every second."""
        self.worker.look_for_the_dead()
        self.watch.look_at_the_clock()


@pytest.fixture
def box(url: str) -> Iterator[Box]:
    """An installation on an empty database."""
    with installed(url) as made:
        yield made


@contextmanager
def installed(url: str) -> Iterator[Box]:
    """An installation on this empty database."""
    database = Database(url)
    migrate.upgrade(database)
    clock, shelf, hypervisor = FakeClock(), FakeShelf(), FakeHypervisor()
    runner, secrets, gates, places = FakeRunner(), FakeSecrets(), FakeGates(), directory()
    adapters = Adapters(
        clock=clock,
        triggers={"fake": FakeTrigger()},
        shelf=shelf,
        hypervisor=hypervisor,
        runner=runner,
        probe_runner=FakeProbeRunner(),
        secrets=secrets,
        gate_kinds=gates.kinds,
        directory=lambda: made.directory,
    )
    made = Box(database, clock, shelf, hypervisor, runner, secrets, gates, places, adapters)
    made.start()
    yield made
    database.close()


@pytest.fixture
def agents(box: Box) -> FakeAgents:
    """The toy with an agent that diagnoses; it makes three calls."""
    box.shelf.runbook = with_agent()
    calls = (call("look", "df", "/srv"), call("status", "systemctl", "status", "x"), call("after", "du"))
    made = FakeAgents(calls=calls)
    box.adapters = replace(box.adapters, agents=made)
    box.start()
    return made
