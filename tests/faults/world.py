"""The world of the tests of faults: one small runbook for each incident, on hosts of its own, and adapters for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engine.domain.alert import Alert
from engine.domain.digest import of_bytes, snapshot_digest
from engine.domain.directory import Address, Directory, Site
from engine.domain.errors import BadInput
from engine.domain.gate import Check, Facts, Sample
from engine.domain.ports import Ending, GateKinds, Probe, SecretValue, TaskResult, VmTask
from engine.domain.runbook import Access, ApprovalRule, CloseStep, GateStep, Runbook, ScriptStep, Snapshot, Step
from engine.domain.runners import Conclusion, Order
from engine.domain.states import Verdict
from engine.orchestration.adapters import Adapters, SystemClock
from tests.doubles.engine import FakeProbeRunner, FakeSecrets, FakeTrigger
from tests.doubles.toy import toy_runbook
from tests.faults.process_hypervisor import ProcessHypervisor

ALERT, RUNBOOK = "Broken-", "mend-"
FILES = {name: name.encode() for name in ("diagnose.sh", "fix.sh", "apply.sh", "undo.sh")}
MOST = 1200
""" How many incidents can have hosts of their own. """


@dataclass(frozen=True)
class Spec:
    """How a world behaves. `waits_at_once`: a run asks for a yes before it needs its first VM.

    Each VM works for `works_s`, that of the leg `slow` for `slow_s`.
    """

    works_s: float = 0.25
    slow: str = ""
    slow_s: float = 0
    measures_s: float = 0.1
    timeout_s: int = 2
    idempotent: tuple[str, ...] = ("diagnose", "fix")
    asks: bool = True
    waits_at_once: bool = False
    pool: str = "default"
    expires_s: int = 3600

    @classmethod
    def read(cls, text: str) -> Spec:
        """From JSON."""
        told = json.loads(text)
        return cls(**{**told, "idempotent": tuple(told["idempotent"])})

    def write(self) -> str:
        """As JSON, always the same text for the same world."""
        return json.dumps(asdict(self), sort_keys=True)


def runbook(name: str, spec: Spec) -> Runbook:
    """The toy's line without a rehearsal; its targets are on hosts that no other incident uses."""
    number = name.removeprefix(RUNBOOK)
    toy = toy_runbook()
    targets = {env: replace(target, host=f"{env}-{number}.toy") for env, target in toy.targets.items()}
    if spec.waits_at_once:
        targets = {"production": replace(targets["production"], protected=False)}
    return replace(
        toy,
        name=name,
        alertnames=(ALERT + number,),
        targets=targets,
        steps=_at_once(toy, spec) if spec.waits_at_once else tuple(_step(step, spec) for step in toy.steps),
        pool=spec.pool,
    )


def _step(step: Step, spec: Spec) -> Step:
    if isinstance(step, GateStep):
        return replace(step, checks=step.checks[:1] + step.checks[2:])
    if not isinstance(step, ScriptStep):
        return step
    approval = ApprovalRule(expires_s=spec.expires_s) if step.approval and spec.asks else None
    return replace(
        step,
        timeout_s=spec.timeout_s,
        idempotent=step.id in spec.idempotent,
        rehearse=False,
        approval=approval,
    )


def _at_once(toy: Runbook, spec: Spec) -> tuple[Step, ...]:
    """Receive, a gate, the question, a change, a gate."""
    receive, change, healthy = toy.steps[0], toy.steps[6], toy.steps[7]
    assert isinstance(change, ScriptStep)
    assert isinstance(healthy, GateStep)
    before = GateStep(id="confirmed", of="receive", checks=healthy.checks[:1], fresh_for_s=86_400)
    return (
        receive,
        before,
        _step(replace(change, uses=None), spec),
        replace(healthy, checks=healthy.checks[:1]),
        CloseStep(id="close"),
    )


@dataclass(frozen=True)
class WorldShelf:
    """Every runbook that can be named."""

    spec: Spec

    def names(self) -> tuple[str, ...]:
        return ()

    def valid(self) -> tuple[str, ...]:
        return ()

    def read(self, name: str) -> Snapshot:
        return self.restore(f"{name}\n{self.spec.write()}", FILES)

    def restore(self, source: str, files: Mapping[str, bytes]) -> Snapshot:
        name, _, spec = source.partition("\n")
        if not name.startswith(RUNBOOK):
            raise BadInput(f"there is no runbook {name!r}")
        kept = dict(files)
        return Snapshot(
            runbook=runbook(name, Spec.read(spec)), source=source, files=kept, digest=snapshot_digest(source, kept)
        )

    def matching(self, alert: Alert) -> tuple[str, ...]:
        return (alert.name.replace(ALERT, RUNBOOK),) if alert.name.startswith(ALERT) else ()


@dataclass
class WorldRunner:
    """The leg's id is the command."""

    spec: Spec
    version: str = "world/1"

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        step = order.leg.step
        assert isinstance(step, ScriptStep)
        return VmTask(
            id=order.attempt_id,
            run_id=order.run_id,
            image=step.image,
            argv=(order.leg.id,),
            timeout_s=step.timeout_s,
            env={"WORKS_S": str(self.spec.slow_s if order.leg.id == self.spec.slow else self.spec.works_s)},
            outlives_worker=step.access is Access.WRITE,
        )

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        ok = result.ending is Ending.EXITED and result.code == 0
        step = order.leg.step.id
        output: dict[str, str] | None = {"cause": "log_growth"} if step == "diagnose" and ok else None
        artefact = b"the fix" if step == "fix" and ok else None
        return Conclusion(ok=ok, reason=result.reason, output=output, artefact=artefact)  # type: ignore[arg-type]

    def content(self, step: ScriptStep, artefact: bytes) -> str:
        return of_bytes(artefact)

    def preview(self, step: ScriptStep, artefact: bytes) -> str:
        return artefact.decode()


@dataclass(frozen=True)
class SlowGates:
    """Checks that hold, after a while."""

    spec: Spec
    clock: SystemClock

    def kinds(self, _directory: Directory) -> GateKinds:
        return {"command": self._held, "http": self._held, "digest": self._held}

    def _held(self, check: Check, facts: Facts, probe: Probe) -> Sample:
        self.clock.sleep(self.spec.measures_s)
        return Sample(verdict=Verdict.HELD, why=f"measured {check.id}")


def directory() -> Directory:
    """Where all targets are."""
    names = (f"{env}-{number:04d}.toy" for env in ("staging", "production") for number in range(MOST))
    address = Address(host="127.0.0.1", port=2201)
    return Directory(
        sites={
            name: Site(name=name, ports={22: address}, ssh_host_key="ssh-ed25519 AAAA", http_url="http://127.0.0.1:1")
            for name in names
        }
    )


def adapters(spec: Spec, folder: Path, host: str, process: str, outlives_s: float) -> Adapters:
    """Everything of the outside, for one process on one host."""
    clock, places = SystemClock(), directory()
    hypervisor = ProcessHypervisor(folder / "hosts" / host, folder / "records", host, process, outlives_s)
    return Adapters(
        clock=clock,
        triggers={"fake": FakeTrigger()},
        shelf=WorldShelf(spec),
        hypervisor=hypervisor,
        runner=WorldRunner(spec),
        probe_runner=FakeProbeRunner(),
        secrets=FakeSecrets(),
        gate_kinds=SlowGates(spec, clock).kinds,
        directory=lambda: places,
    )
