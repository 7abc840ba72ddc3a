"""The runbook `terraform-change` on the real machine: database, gates, Terraform, volumes. Vault and Slack are not."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine import gates
from engine.domain.alert import Alert, Severity
from engine.domain.directory import Address, Directory, Site
from engine.domain.incident import RunView
from engine.domain.ports import Hypervisor, SecretValue
from engine.domain.runbook import SecretRef
from engine.domain.states import RunState
from engine.orchestration.adapters import Adapters, SystemClock
from engine.orchestration.watch import Watch
from engine.runbooks import Shelf
from engine.runtime.runners.by_tool import RunnerByTool
from engine.runtime.runners.probe import SshProbeRunner
from engine.secrets.redact import Redactor
from engine.service import People, Service
from engine.store import migrate
from engine.store.session import Database
from engine.wiring import make_worker
from tests.doubles.engine import FakeHarness, FakeTrigger
from tests.integration.engine.conftest import ANA
from tests.services.volumes.service import Volumes, serving

RUNBOOKS = Path(__file__).parents[3] / "runbooks"
ENVIRONMENTS = ("staging", "production")
REQUEST = {"size_gb": "60", "was_gb": "40", "tier": "standard", "was_tier": "standard", "allow_replace": "no"}


def host(env: str) -> str:
    """What an environment is called."""
    return f"{env}.volumes.demo"


@dataclass(frozen=True)
class Words:
    """Everybody's word by its path, as Vault would give it; what was given is masked."""

    known: Mapping[str, str]
    masked: Redactor = field(default_factory=Redactor)

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> Given:
        values = tuple(SecretValue(name=ref.name, value=self.known[ref.path]) for ref in refs)
        for value in values:
            self.masked.learn(value.name, value.value)
        return Given(values, self.masked)

    def redactor(self) -> Redactor:
        return self.masked

    def revoke_run(self, run_id: str) -> None: ...

    def recover(self, accessors: Collection[str]) -> None: ...

    def reachable(self) -> None: ...


@dataclass(frozen=True)
class Given:
    """What one attempt was given."""

    values: tuple[SecretValue, ...]
    redactor: Redactor

    def close(self) -> None: ...


@dataclass
class RequestTrigger(FakeTrigger):
    """Every body is the change request."""

    request: Mapping[str, str] = field(default_factory=dict)

    def parse(self, body: bytes) -> tuple[Alert, ...]:
        (one,) = super().parse(body)
        return (replace(one, severity=Severity.WARNING, labels=dict(self.request)),)


@dataclass
class Whole:
    """One installation, driven by hand, and its two environments."""

    volumes: Mapping[str, Volumes]
    runbooks: Path
    database: Database
    adapters: Adapters
    service: Service = field(init=False)

    def ask(self, **request: str) -> RunView:
        """A change request comes in; the run goes as far as it comes by itself."""
        adapters = replace(self.adapters, triggers={"fake": RequestTrigger(REQUEST | request)})
        watch = Watch(self.database, adapters)
        self._worker = make_worker(
            self.database,
            adapters,
            url="never connected",
            process="test",
            host="here",
            pool="default",
            concurrency=1,
            lasts_s=600,
        )
        self._worker.claim.join(adapters.clock.now())
        people = People(approvers=(ANA.id,))
        self.service = Service(self.database, adapters, watch, self._worker, people, FakeHarness())
        self.service.receive("fake", {"Authorization": "Bearer token"}, b"VolumeChangeRequested firing")
        watch.drain()
        return self.go()

    def go(self) -> RunView:
        """Drive the run on."""
        if self.run().state is RunState.QUEUED:
            self._worker.driver.drive(self.run().id)
        return self.run()

    def run(self) -> RunView:
        """The one run."""
        (run,) = self.service.incident(1).runs
        return run

    def sizes(self) -> tuple[int | None, ...]:
        """Of the volume on staging and on production, as they really are."""
        return tuple(self.volumes[env].size_gb("log") for env in ENVIRONMENTS)


@contextmanager
def environments(folder: Path, state: bytes) -> Iterator[Mapping[str, Volumes]]:
    """Staging and production, each with a volume `log` of 40 GB of which Terraform knows."""
    with ExitStack() as stack:
        found = {}
        for env in ENVIRONMENTS:
            made = Volumes(folder / env, f"{env}-reader-word-71c", f"{env}-operator-word-93b", state=state)
            found[env] = stack.enter_context(serving(made))
            made.resize("log", 40)
        yield found


@contextmanager
def installation(volumes: Mapping[str, Volumes], hypervisor: Hypervisor, folder: Path) -> Iterator[Whole]:
    """Signalbox with a copy of the runbook."""
    runbooks = folder / "runbooks"
    shutil.copytree(RUNBOOKS / "terraform-change", runbooks / "terraform-change")
    shutil.copy(RUNBOOKS / "terraform-change.yaml", runbooks)
    sites = {
        host(env): Site(
            name=host(env),
            ports={8080: Address(host="127.0.0.1", port=made.port)},
            http_url=f"http://127.0.0.1:{made.port}",
        )
        for env, made in volumes.items()
    }
    database = Database(f"sqlite:///{folder / 'test.db'}")
    migrate.upgrade(database)
    words = {
        f"kv/data/volumes/{env}/{who}": word
        for env, made in volumes.items()
        for who, word in (("reader", made.reader), ("operator", made.operator))
    }
    adapters = Adapters(
        clock=SystemClock(),
        triggers={},
        shelf=Shelf(runbooks),
        hypervisor=hypervisor,
        runner=RunnerByTool(),
        probe_runner=SshProbeRunner(),
        secrets=Words(words),
        gate_kinds=lambda known: gates.kinds(known, ""),
        directory=lambda: Directory(sites=sites),
    )
    try:
        yield Whole(volumes, runbooks, database, adapters)
    finally:
        database.close()
