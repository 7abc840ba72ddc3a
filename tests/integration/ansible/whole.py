"""The runbook `ansible-drift` on the real machine: real database, VMs, gates, targets. Only Slack and Vault are not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from demo.world import target as world
from demo.world.faults import Fault
from demo.world.target import Target as World
from engine import gates
from engine.domain.alert import Alert
from engine.domain.directory import Address, Directory, Site
from engine.domain.incident import RunView
from engine.domain.ports import SecretValue
from engine.domain.runbook import SecretRef
from engine.domain.states import RunState
from engine.orchestration.adapters import Adapters, SystemClock
from engine.orchestration.watch import Watch
from engine.runbooks import Shelf
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.runners.by_tool import RunnerByTool
from engine.runtime.runners.probe import SshProbeRunner
from engine.secrets.redact import Redactor
from engine.service import People, Service
from engine.store import migrate
from engine.store.session import Database
from engine.wiring import make_worker
from tests.doubles.engine import FakeHarness, FakeTrigger
from tests.integration.ansible.scene import free_port
from tests.integration.engine.conftest import ANA
from tests.integration.runtime.harness import eventually
from tests.plugins_vm import ROOT


@dataclass(frozen=True)
class Keys:
    """Everybody's private keys by their path, as Vault would give them; what was given is masked."""

    people: Mapping[str, str]
    known: Redactor = field(default_factory=Redactor)

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> Given:
        values = tuple(SecretValue(name=ref.name, value=self.people[ref.path]) for ref in refs)
        for value in values:
            self.known.learn(value.name, value.value)
        return Given(values, self.known)

    def redactor(self) -> Redactor:
        return self.known

    def revoke_run(self, run_id: str) -> None: ...

    def recover(self, accessors: Collection[str]) -> None: ...

    def reachable(self) -> None: ...


@dataclass(frozen=True)
class Given:
    """What one attempt was given."""

    values: tuple[SecretValue, ...]
    redactor: Redactor

    def close(self) -> None: ...


class DriftTrigger(FakeTrigger):
    """Every body is the alert that starts the runbook."""

    def parse(self, body: bytes) -> tuple[Alert, ...]:
        (one,) = super().parse(body)
        return (replace(one, labels={"env": "production"}),)


@dataclass
class Whole:
    """One installation, driven by hand, and its two targets."""

    targets: Mapping[str, World]
    runbooks: Path
    database: Database
    adapters: Adapters
    service: Service = field(init=False)

    def __post_init__(self) -> None:
        self._watch = Watch(self.database, self.adapters)
        self._worker = make_worker(
            self.database,
            self.adapters,
            url="never connected",
            process="test",
            host="here",
            pool="default",
            concurrency=1,
            lasts_s=600,
        )
        self._worker.claim.join(self.adapters.clock.now())
        people = People(approvers=(ANA.id,))
        self.service = Service(self.database, self.adapters, self._watch, self._worker, people, FakeHarness())

    def fire(self) -> RunView:
        """The alert comes in: a run starts with the runbook as it is now, and goes as far as it comes by itself."""
        self.service.receive("fake", {"Authorization": "Bearer token"}, b"CheckoutConfigurationDrift firing")
        self._watch.drain()
        return self.go()

    def go(self) -> RunView:
        """Drive the run as far as it comes by itself."""
        if self.run().state is RunState.QUEUED:
            self._worker.driver.drive(self.run().id)
        return self.run()

    def run(self) -> RunView:
        """The one run."""
        (run,) = self.service.incident(1).runs
        return run

    def edit(self, file: str, old: str, new: str) -> None:
        """Change a file of the runbooks on disk."""
        text = (self.runbooks / file).read_text()
        assert text.count(old) == 1
        (self.runbooks / file).write_text(text.replace(old, new))

    def config(self, env: str) -> str:
        """What the configuration is on a target, as its verifier sees it."""
        return self.targets[env].run("verifier", "cat /srv/checkout/checkout.json").stdout


@contextmanager
def two_targets(image: Path, folder: Path, fault: Fault) -> Iterator[Mapping[str, World]]:
    """Staging and production, up, both with a configuration that drifted."""
    with ExitStack() as stack:
        found = {}
        for env in (world.STAGING, world.PRODUCTION):
            found[env] = made = world.prepare(
                env, folder / env, image, world.checkout(fault), (free_port(), free_port())
            )
            process = stack.enter_context(subprocess.Popen(world.argv(made, image, "tcg")))
            stack.callback(process.kill)
        for made in found.values():
            eventually(made.ready, 200, f"{made.env} answers")
        yield found


@contextmanager
def installation(targets: Mapping[str, World], hypervisor: LibvirtHypervisor, folder: Path) -> Iterator[Whole]:
    """Signalbox with a copy of the runbook."""
    runbooks = folder / "runbooks"
    shutil.copytree(ROOT / "runbooks" / "ansible-drift", runbooks / "ansible-drift")
    shutil.copy(ROOT / "runbooks" / "ansible-drift.yaml", runbooks)
    sites = {
        made.host: Site(
            name=made.host,
            ports={22: Address(host="127.0.0.1", port=made.ssh_port)},
            ssh_host_key=made.host_key.public,
            http_url=made.http_url,
        )
        for made in targets.values()
    }
    database = Database(f"sqlite:///{folder / 'test.db'}")
    migrate.upgrade(database)
    people = {
        f"kv/data/checkout/{env}/{user}": key.private
        for env, made in targets.items()
        for user, key in made.people.items()
    }
    adapters = Adapters(
        clock=SystemClock(),
        triggers={"fake": DriftTrigger()},
        shelf=Shelf(runbooks),
        hypervisor=hypervisor,
        runner=RunnerByTool(),
        probe_runner=SshProbeRunner(),
        secrets=Keys(people),
        gate_kinds=lambda known: gates.kinds(known, ""),
        directory=lambda: Directory(sites=sites),
    )
    try:
        yield Whole(targets, runbooks, database, adapters)
    finally:
        database.close()
