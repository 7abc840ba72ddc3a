"""The real engine with everything outside it faked: steps end at once, gates hold at once.

Real: driver, boundary, store, chain, outbox, claims, carriers (Local on SQLite, Fleet on Postgres), service, watch.
Fake (those of tests/doubles): the hypervisor, the runner, secrets, gate kinds, the trigger, and a shelf in memory.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import sqlalchemy as sa

from engine.domain.alert import Alert, AlertStatus, Delivery
from engine.domain.digest import snapshot_digest
from engine.domain.directory import Address, Directory, Site
from engine.domain.gate import Check, Facts, Sample
from engine.domain.incident import Person
from engine.domain.ports import Probe, Redactor, TaskResult, VmTask
from engine.domain.runbook import (
    GateStep,
    Grant,
    Runbook,
    ScriptStep,
    Snapshot,
    Step,
)
from engine.orchestration.adapters import Adapters, SystemClock
from engine.orchestration.watch import Watch
from engine.orchestration.worker import Worker
from engine.service import People, Service
from engine.store import migrate, models, wakeups
from engine.store.ids import new_id
from engine.store.session import Database
from engine.wiring import make_worker
from tests.doubles.engine import (
    FakeGates,
    FakeHarness,
    FakeHypervisor,
    FakeProbeRunner,
    FakeRunner,
    FakeSecrets,
    FakeShelf,
    FakeTrigger,
)
from tests.doubles.toy import toy_runbook

STEPS = 9
FIRST, LAST = "diagnose", "healthy"
ANA = Person(id="UANA", name="Ana")
SITES = 20_000
PATIENCE_S = 120.0


@cache
def runbook(number: int, *, asks: bool) -> Runbook:
    """The toy's nine steps for a target of its own: no secrets, no egress, no rehearsal; a yes only if `asks`."""
    toy = toy_runbook()
    targets = {name: replace(each, host=f"{name}-{number}") for name, each in toy.targets.items()}
    steps = tuple(_bare(step, asks=asks) for step in toy.steps)
    return replace(toy, name=name(number, asks=asks), targets=targets, steps=steps)


def _bare(step: Step, *, asks: bool) -> Step:
    if isinstance(step, GateStep):
        return replace(step, checks=tuple(check for check in step.checks if check.type == "http"))
    if not isinstance(step, ScriptStep):
        return step
    approval = step.approval if asks and step.approval else None
    return replace(step, grant=Grant(), login=None, rehearse=False, rollback=None, approval=approval)


def name(number: int, *, asks: bool = False) -> str:
    """What the runbook of this number is called."""
    return f"{'asking' if asks else 'plain'}-{number}"


class BenchShelf(FakeShelf):
    """A runbook for every number, in memory: their source is their name."""

    def read(self, name: str) -> Snapshot:
        return self.restore(name, self.files)

    def restore(self, source: str, files: Mapping[str, bytes]) -> Snapshot:
        kind, _, number = source.partition("-")
        kept = dict(files)
        book = runbook(int(number), asks=kind == "asking")
        return Snapshot(runbook=book, source=source, files=kept, digest=snapshot_digest(source, kept))

    def matching(self, alert: Alert) -> tuple[str, ...]:
        return (alert.name,)


class BenchTrigger(FakeTrigger):
    """Every body is an incident of its own: `RUNBOOK firing`."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        return Delivery(source=self.name, key=body.decode(), body=body, group=body.decode())


@dataclass
class Stopwatch:
    """When work begins and ends. A run is driven by one thread, so what lies between is kept by thread."""

    gaps: list[float] = field(default_factory=list)
    begun: dict[tuple[str, str], float] = field(default_factory=dict)
    here: threading.local = field(default_factory=threading.local)

    def begin(self, leg: str, run_id: str | None = None) -> None:
        """Work begins: an attempt says its run, a gate is of the run before it on this thread."""
        now = time.perf_counter()
        if run_id is not None and run_id != getattr(self.here, "run_id", None):
            self.here.run_id, self.here.ended = run_id, None
        elif getattr(self.here, "ended", None) is not None:
            self.gaps.append(now - self.here.ended)
        self.begun[self.here.run_id, leg] = now

    def end(self) -> None:
        """Work ended."""
        self.here.ended = time.perf_counter()

    def is_over(self, run_id: str) -> bool:
        """Whether this thread has done the last work of a run."""
        return (run_id, LAST) in self.begun


class BenchHypervisor(FakeHypervisor):
    """Every command ends at once, well."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:
        self.watch.begin(task.argv[0], task.run_id)
        result = super().run(task, redactor, on_output)
        self.watch.end()
        return result


class BenchGates(FakeGates):
    """Every check holds at once."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch

    def measure(self, check: Check, facts: Facts, probe: Probe) -> Sample:
        self.watch.begin(check.id.removesuffix("-outside"))
        sample = super().measure(check, facts, probe)
        self.watch.end()
        return sample


@dataclass
class Installation:
    """One Signalbox on one database, with a worker that drives `at_once` runs."""

    database: Database
    adapters: Adapters
    watch: Watch
    worker: Worker
    service: Service
    stopwatch: Stopwatch
    _over: set[str] = field(default_factory=set)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def carry(self, run_ids: Collection[str]) -> None:
        """Wake these runs, all in one transaction, and wait until they have ended."""
        with self.database.transaction() as session:
            for run in session.scalars(sa.select(models.Run).where(models.Run.id.in_(run_ids))):
                wakeups.wake(session, run)
        self.wait_until_over(run_ids)

    def wait_until_over(self, run_ids: Collection[str]) -> None:
        """Until these runs have ended."""
        self.wait(lambda: self._over.issuperset(run_ids))

    def fire(self, number: int) -> None:
        """An alert comes in, for a run that asks a person."""
        self.service.receive("fake", {}, f"{name(number, asks=True)} {AlertStatus.FIRING}".encode())

    def wait(self, what: Callable[[], bool]) -> None:
        """Until it is so; looked at after each piece of driving."""
        with self._news:
            if not self._news.wait_for(what, PATIENCE_S):
                raise TimeoutError("the runs of this benchmark did not get where they should")

    def driven(self, drive: Callable[[str], None]) -> Callable[[str], None]:
        """The same, and who waits hears of it."""

        def drive_and_say(run_id: str) -> None:
            self.stopwatch.here.ended = None  # what lay between two drives was a person's wait, or another run
            drive(run_id)
            with self._news:
                if self.stopwatch.is_over(run_id):
                    self._over.add(run_id)
                self._news.notify_all()

        return drive_and_say


def make(url: str, *, at_once: int) -> Installation:
    """Join the real engine and the fakes on a migrated database; nothing is started."""
    database, stopwatch = Database(url), Stopwatch()
    migrate.upgrade(database)
    adapters = Adapters(
        clock=SystemClock(),
        triggers={"fake": BenchTrigger()},
        shelf=BenchShelf(),
        hypervisor=BenchHypervisor(stopwatch),
        runner=FakeRunner(),
        probe_runner=FakeProbeRunner(),
        secrets=FakeSecrets(),
        gate_kinds=BenchGates(stopwatch).kinds,
        directory=_directory,
    )
    watch = Watch(database, adapters)
    worker = make_worker(
        database,
        adapters,
        url=url,
        process=f"bench-{new_id()}",
        host="here",
        pool="default",
        concurrency=at_once,
        lasts_s=15,
    )
    service = Service(database, adapters, watch, worker, People(approvers=(ANA.id,)), FakeHarness())
    made = Installation(database, adapters, watch, worker, service, stopwatch)
    carrier = worker.carrier
    worker.carrier = lambda drive: carrier(made.driven(drive))
    return made


@contextlib.contextmanager
def working(url: str, *, at_once: int) -> Iterator[Installation]:
    """The same, at work until the block ends."""
    made = make(url, at_once=at_once)
    made.watch.start()
    made.worker.start()
    try:
        yield made
    finally:
        made.watch.stop()
        made.worker.stop()
        made.database.close()


@cache
def _directory() -> Directory:
    """Where the targets are; kept, as reading a file of sites is nothing of coordination's."""
    here = Address(host="127.0.0.1", port=1)
    names = (f"{env}-{number}" for env in ("staging", "production") for number in range(SITES))
    return Directory(sites={name: Site(name=name, ports={22: here}, ssh_host_key="", http_url="") for name in names})
