"""The world outside the database, which no transaction rolls back: VMs on their hosts, tokens, what was changed.

A VM outlives its worker: it makes its change later, unless somebody destroys it, kills its token, or its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engine.coordination.orders import changes
from engine.domain.digest import of_bytes
from engine.domain.errors import Refused, SignalboxError
from engine.domain.gate import Check, Facts, Sample
from engine.domain.journey import Journey
from engine.domain.ports import (
    OUTLIVES_TIMEOUT_S,
    Ending,
    Probe,
    Redactor,
    SecretJournal,
    SecretValue,
    TaskResult,
    VmTask,
)
from engine.domain.runbook import Runbook, ScriptStep, SecretRef
from engine.domain.states import Verdict
from tests.doubles.chaos import ON_THE_DATABASE, At, Chaos
from tests.doubles.engine import FakeClock, FakeGates, PlainRedactor, ended

RAISES = "raises"
""" A check that breaks instead of measuring. """


@dataclass(frozen=True, slots=True)
class Effect:
    """A target was changed."""

    run_id: str
    leg: str
    attempt_id: str
    at: datetime


@dataclass(slots=True)
class Vm:
    """One that lives."""

    task: VmTask
    host: str
    process: str
    dies_at: datetime
    worked: bool = False

    @property
    def leg(self) -> str:
        return self.task.argv[0]


@dataclass(slots=True)
class Outside:
    """What is really so. `wrong`: what must never happen and did.

    `holder`: of a host, the run that has its lock. `forbidden`: why an attempt must not begin now, or nothing.
    """

    clock: FakeClock
    chaos: Chaos
    runbook: Runbook
    journey: Journey
    holder: Callable[[str], str | None]
    forbidden: Callable[[str], str]
    vms: dict[str, Vm] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    effects: list[Effect] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    plan: dict[str, str] = field(default_factory=dict)
    image: bytes = b"the image"
    vault_down: SignalboxError | None = None
    libvirt_down: SignalboxError | None = None

    def begin(self, vm: Vm) -> None:
        """A VM is born: none of the same run may live."""
        others = [other.leg for other in self.vms.values() if other.task.run_id == vm.task.run_id]
        if others:
            self.wrong.append(f"{vm.leg} begins while a VM of {others} of the same run lives")
        self.vms[vm.task.id] = vm

    def work(self, vm: Vm) -> None:
        """The command in the VM does what it is there for, if it can still log in."""
        leg = self.journey.leg(vm.leg)
        if vm.worked or vm.task.id not in self.vms or vm.task.id not in self.tokens or not changes(leg):
            return
        vm.worked = True
        self.effects.append(Effect(vm.task.run_id, vm.leg, vm.task.id, self.clock.now()))
        assert isinstance(leg.step, ScriptStep)
        host = self.runbook.targets[leg.step.target or ""].host
        if self.holder(host) != vm.task.run_id:
            self.wrong.append(f"{vm.leg} changes {host}, which its run does not hold")

    def grow_older(self) -> None:
        """VMs whose time is over end themselves."""
        now = self.clock.now()
        self.vms = {name: vm for name, vm in self.vms.items() if vm.dies_at > now}

    def orphans_work(self) -> None:
        """What the dead left behind gets on with it, and ends."""
        for name, vm in tuple(self.vms.items()):
            self.work(vm)
            del self.vms[name]


@dataclass
class VmHost:
    """The hypervisor of one host, as one process has it."""

    outside: Outside
    host: str
    process: str
    barred: set[str] = field(default_factory=set)

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:
        here, chaos = self.outside, self.outside.chaos
        why_not = here.forbidden(task.id)
        if why_not and chaos.struck not in ON_THE_DATABASE:  # there it may strike right after the last look
            here.wrong.append(f"{task.argv[0]} begins: {why_not}")
        chaos.point(At.VM)
        dies_at = here.clock.now() + timedelta(seconds=task.timeout_s + OUTLIVES_TIMEOUT_S)
        vm = Vm(task, self.host, self.process, dies_at)
        if task.id in self.barred:
            raise Refused("it was cancelled before it began")
        here.begin(vm)
        chaos.point(At.VM)
        here.work(vm)
        chaos.point(At.VM)
        if here.vms.pop(task.id, None) is None:
            return ended(Ending.CANCELLED, None, "its VM was destroyed")
        match here.plan.get(vm.leg):
            case None:
                return ended()
            case "exit 1":
                return ended(code=1, reason="it said no")
            case ending:
                return ended(Ending(ending), None, "nobody saw its end")

    def destroy(self, task_id: str) -> bool:
        self._reached()
        self.barred.add(task_id)
        vm = self.outside.vms.get(task_id)
        return vm is not None and vm.host == self.host and self.outside.vms.pop(task_id) is vm

    def destroy_all_of(self, run_id: str) -> tuple[str, ...]:
        return self._destroy(lambda vm: vm.task.run_id == run_id)

    def sweep(self, living: Callable[[], Collection[str]] = tuple) -> tuple[str, ...]:
        return self._destroy(lambda vm: vm.process not in living())

    def _destroy(self, which: Callable[[Vm], bool]) -> tuple[str, ...]:
        self._reached()
        mine = [name for name, vm in self.outside.vms.items() if vm.host == self.host and which(vm)]
        for name in mine:
            del self.outside.vms[name]
        return tuple(mine)

    def image_digest(self, image: str) -> str:
        return of_bytes(self.outside.image)

    def reachable(self) -> None:
        self._reached()

    def shortage(self) -> str:
        return ""

    def _reached(self) -> None:
        self.outside.chaos.point(At.LIBVIRT)
        if self.outside.libvirt_down is not None:
            raise self.outside.libvirt_down


@dataclass
class MintingGrant:
    """A grant whose token must be seen dead."""

    secrets: MintingSecrets
    accessor: str
    values: tuple[SecretValue, ...] = ()
    redactor: Redactor = field(default_factory=PlainRedactor)

    def close(self) -> None:
        self.secrets.bury(self.accessor)


@dataclass
class MintingSecrets:
    """One token an attempt, journalled as the real broker does: known to the database before it is used."""

    outside: Outside
    journal: SecretJournal

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> MintingGrant:
        self.reachable()
        self.journal.minting(run_id=run_id, attempt_id=attempt_id, policy="policy", paths=[ref.path for ref in refs])
        self.outside.tokens.add(attempt_id)
        try:
            self.journal.minted(run_id=run_id, attempt_id=attempt_id, kind="step", accessor=attempt_id)
        except SignalboxError:
            self.outside.tokens.discard(attempt_id)
            raise
        return MintingGrant(self, attempt_id)

    def bury(self, accessor: str) -> None:
        """Revoke a token and say so."""
        self.reachable()
        self.outside.tokens.discard(accessor)
        self.journal.revoked(accessor=accessor)

    def redactor(self) -> Redactor:
        return PlainRedactor()

    def revoke_run(self, run_id: str) -> None:
        raise AssertionError("nobody asks for this here")

    def recover(self, accessors: Collection[str]) -> None:
        for accessor in accessors:
            self.bury(accessor)

    def reachable(self) -> None:
        self.outside.chaos.point(At.SECRET)
        if self.outside.vault_down is not None:
            raise self.outside.vault_down


@dataclass
class PlannedGates(FakeGates):
    """Checks that hold unless the plan says otherwise, by the check's id."""

    outside: Outside

    def __post_init__(self) -> None:
        super().__init__()

    def measure(self, check: Check, facts: Facts, probe: Probe) -> Sample:
        self.outside.chaos.point(At.GATE)
        found = self.outside.plan.get(check.id, Verdict.HELD.value)
        if found == RAISES:
            raise RuntimeError(f"{check.id} broke")
        return Sample(verdict=Verdict(found), why=f"measured {check.id}")
