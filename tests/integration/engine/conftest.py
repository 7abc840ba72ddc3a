"""The real machine on real databases, with adapters of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.domain.directory import Directory
from engine.domain.incident import IncidentView, Person, RunView
from engine.domain.states import RunState
from engine.orchestration.adapters import Adapters
from engine.orchestration.driver import Driver
from engine.orchestration.performing import Running
from engine.service import People, Service
from engine.store import migrate
from engine.store.session import Database
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
    driver: Driver
    service: Service

    def fire(self, body: bytes = b"ToyBroken firing") -> None:
        """An alert comes in and is worked off."""
        self.service.receive("fake", {"Authorization": "Bearer token"}, body)
        self.driver.drain()

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
        adapters = self.driver.adapters
        self.driver = Driver(database=self.database, adapters=adapters, workers=1, running=Running(adapters))
        self.service = Service(self.database, adapters, self.driver, People(approvers=("UANA", "UBEN")), FakeHarness())
        assert self.driver.recover()


@pytest.fixture
def box(url: str) -> Iterator[Box]:
    """An installation on an empty database."""
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
    driver = Driver(database=database, adapters=adapters, workers=1, running=Running(adapters))
    service = Service(database, adapters, driver, People(approvers=("UANA", "UBEN")), FakeHarness())
    made = Box(database, clock, shelf, hypervisor, runner, secrets, gates, places, driver, service)
    yield made
    database.close()
