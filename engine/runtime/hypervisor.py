"""Throw-away VMs by libvirt. Implements `engine.domain.ports.Hypervisor`.

Transient domains only, known again by a mark in their metadata. A VM is destroyed, and proved gone, before `run`
returns; libvirt's death is noticed at once and ends the task. A task gets a VM that waits in the pool, or a new one;
either knows nothing before it, and serves nobody after it.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import structlog

from engine.domain.agent import Guest
from engine.domain.errors import BadInput, Refused, SignalboxError, Unavailable
from engine.domain.ports import Ending, Redactor, TaskResult, VmTask
from engine.runtime import attending, domain_xml, image, logs, session
from engine.runtime.at_work import AtWork, Running
from engine.runtime.domain_xml import TB_CACHE_MB, domain_name
from engine.runtime.egress import Egress
from engine.runtime.host import GONE_TIMEOUT_S, Found, Host
from engine.runtime.machine import OVERHEAD_MB, Machine, Make, Workshop
from engine.runtime.memory import Memory, Room
from engine.runtime.output import NoSecrets
from engine.runtime.pool import Pool
from engine.runtime.template import Templates

log = structlog.get_logger()

Accel = Literal["auto", "kvm", "tcg"]
Look = Callable[[str, str], None]
""" At a VM while it runs: its uuid, and libvirt's XML of it. """
KVM_DEVICE = Path("/dev/kvm")
BOOT_TIMEOUT_S = 180.0
TRIAL_TIMEOUT_S = 20.0  # KVM boots in a second or two, or never
TRIAL_MEMORY_MB = 256
TRIAL_CPU_PERCENT = 400  # no hindrance, but libvirt says whether it could hold a VM to it
USUAL_MEMORY_MB = 384  # of a task that says nothing
WAITS_FOR_MEMORY_S = 600.0
CHANGE_WAITS_FOR_MEMORY_S = 60.0  # what its gate measured must still be so when it begins
NOBODY = "nobody"
PRUNED_EVERY_S = 3600.0


class LibvirtHypervisor:
    """VMs on one libvirt. Connects when first needed, and again after libvirtd came back. Thread-safe.

    `images`: the folder of guest images. `owner`: this host's mark; only VMs that carry it are ever touched. `process`:
    who works with the VMs that this process starts.
    `accel`: "auto" believes a short real boot under KVM, never libvirt's capabilities.
    `warm`: how many VMs of one make wait at most for their task. `memory_mb`: for all VMs together; 0: a share of what
    is available now. `templates`: where VMs are saved that new ones are clones of; None: every VM boots.
    """

    def __init__(
        self,
        uri: str,
        images: Path,
        owner: str,
        accel: Accel = "auto",
        process: str = NOBODY,
        *,
        warm: int = 0,
        memory_mb: int = 0,
        templates: Path | None = None,
    ) -> None:
        for mark in (owner, process):
            if not session.NAME.fullmatch(mark):
                raise BadInput(f"mark {mark!r} is not plain", "use letters, digits, . _ -")
        self._images, self._owner, self._process = images, owner, process
        self._host = Host(uri)
        saved = Templates(templates, self._host, process) if templates is not None else None
        self._workshop = Workshop(self._host, images, owner, process, saved)
        self._templates = saved
        self._memory = Memory(memory_mb)
        self._at_work = AtWork()
        self._pool = Pool(
            self._workshop, self._memory, warm, busy=self._at_work.boots
        )  # nothing else may boot while a task waits
        self._memory.give_up = self._pool.give_up_one
        self._kvm: bool | None = {"kvm": True, "tcg": False}.get(accel)
        self.holds_cpu = False  # whether the last VM that should be was held to its `cpu_percent` (a trial boot asks)
        self._no_kvm = "SIGNALBOX_ACCEL=tcg says so"
        self._kvm_lock = threading.Lock()
        self._prune_at = 0.0

    # -- the port

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:
        """See `ports.Hypervisor.run`. Raises BadInput, Unavailable, Refused (a VM of this id exists)."""
        session.check(task)
        return self._run(task, redactor, on_output, kvm=None, boot_timeout_s=BOOT_TIMEOUT_S)

    def attend(
        self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None], work: Callable[[Guest], None]
    ) -> TaskResult:
        """See `runners.Attends`. Raises as `run` does, and what `work` raises. Nothing is told to `on_output`."""
        session.check(task)
        body = attending.body(work, redactor)
        return self._run(task, redactor, on_output, kvm=None, boot_timeout_s=BOOT_TIMEOUT_S, body=body)

    def destroy(self, task_id: str) -> bool:
        """See `ports.Hypervisor.destroy`: returns when the VM is gone, raises Unavailable if unproved.

        A task that has not begun yet will not: its id is barred.
        """
        running = self._at_work.cancel(task_id)
        if running is None:
            return self._destroy_found(task_id)
        self._memory.poke()
        if running.thread != threading.get_ident() and not running.done.wait(2 * GONE_TIMEOUT_S):
            raise Unavailable(f"the VM of {task_id} did not end", "look at libvirtd")
        return True

    def sweep(self, living: Callable[[], Collection[str]] = tuple) -> tuple[str, ...]:
        """See `ports.Hypervisor.sweep`: also our own that nobody here works with, and old files."""
        found = self._ours()
        alive = living()  # only now: see the port
        if self._templates is not None:
            self._templates.sweep(living)
        self._prune_logs()
        return self._destroy_all(one for one in found if one.mark.process not in alive or self._is_lost(one))

    def _is_lost(self, found: Found) -> bool:
        """One of this process that no task, pool or template of it works with: its end could not be proved."""
        return found.mark.process == self._process != NOBODY and not self._host.holds(found.uuid)

    def destroy_all_of(self, run_id: str) -> tuple[str, ...]:
        """See `ports.Hypervisor.destroy_all_of`."""
        return self._destroy_all(found for found in self._ours() if found.mark.run == run_id)

    def _destroy_all(self, doomed: Iterable[Found]) -> tuple[str, ...]:
        return tuple(found.mark.task for found in doomed if self.destroy(found.mark.task))

    def _prune_logs(self) -> None:
        where, now = logs.folder(self._host.uri), time.monotonic()
        if where is None or now < self._prune_at:
            return
        self._prune_at = now + PRUNED_EVERY_S
        logs.prune(where, domain_xml.sign_of(self._owner), self._host.names())

    def image_digest(self, image_name: str) -> str:
        """See `ports.Hypervisor.image_digest`."""
        return image.image_digest(self._images, image_name)

    def reachable(self) -> None:
        """See `ports.Hypervisor.reachable`."""
        self._host.reachable()

    def keep_warm(self, image_name: str = "step") -> None:
        """Before the first task: find out how VMs run here, warn if slowly, and have one ready where there is a pool.

        Returns at once, never raises.
        """
        threading.Thread(target=self._expect, args=(image_name,), daemon=True, name="vm-pool-first").start()

    def _expect(self, image_name: str) -> None:
        try:
            kvm = self._use_kvm(image_name)
            if why := self.emulated():
                log.warning("VMs run under software emulation, which is slow and holds less", why=why)
            if self._pool.most:
                self._pool.expect(self._workshop.make(image_name, USUAL_MEMORY_MB, kvm=kvm, outlives_worker=False))
        except SignalboxError as error:  # the first task meets it again, and says so where it counts
            log.warning("no VM waits for the first step", why=str(error))

    def emulated(self) -> str:
        """Why VMs run under TCG; empty under KVM, and before that is known."""
        return "" if self._kvm is not False else self._no_kvm

    def warm(self) -> int:
        """How many VMs wait for a task."""
        return self._pool.waiting()

    def trial_boot(self, image_name: str = "step", look: Look = lambda *_: None) -> float:
        """Boot a VM, wait until it says something, `look` at it, destroy it: seconds.

        Raises Unavailable with what went wrong, BadInput, and what `look` raises.
        """
        begun = time.monotonic()
        result = self._trial(image_name, kvm=self._use_kvm(image_name), boot_timeout_s=BOOT_TIMEOUT_S, look=look)
        if result.ending is not Ending.EXITED or result.code != 0:
            raise Unavailable(f"a trial VM did not work: {result.reason or result.ending}", self._host.remedy())
        return time.monotonic() - begun

    def describe(self) -> str:
        """One line for `doctor`: where VMs run and how. Raises Unavailable."""
        qemu, _ = self._host.versions()
        how = {True: "KVM", False: "TCG (no KVM: slow)", None: "acceleration not probed yet"}[self._kvm]
        return f"{self._host.uri}, QEMU {qemu}, {how}"

    def describe_memory(self) -> str:
        """One line for `doctor`: the memory that VMs may use, how many may wait."""
        return f"VMs may use {self._memory.budget_mb} MB; up to {self._pool.most} of a make wait in the pool"

    def shortage(self) -> str:
        """See `ports.Hypervisor.shortage`: for a usual task."""
        return self._memory.shortage(self._usual_cost_mb())

    def room(self) -> int:
        """For how many usual VMs at once there is memory."""
        return self._memory.budget_mb // self._usual_cost_mb()

    def _usual_cost_mb(self) -> int:
        return USUAL_MEMORY_MB + OVERHEAD_MB + (0 if self._kvm else TB_CACHE_MB)

    def close(self) -> None:
        """End what runs and what waits, and disconnect."""
        for task_id in self._at_work.ids():
            self.destroy(task_id)
        self._pool.close()
        self._host.close()

    # -- one task

    def _run(
        self,
        task: VmTask,
        redactor: Redactor,
        on_output: Callable[[str], None],
        *,
        kvm: bool | None,
        boot_timeout_s: float,
        body: session.Body = session.one_command,
    ) -> TaskResult:
        with self._at_work.on(task.id) as running:
            make = self._workshop.make(
                task.image,
                task.memory_mb,
                vcpus=task.vcpus,
                kvm=self._use_kvm(task.image) if kvm is None else kvm,
                outlives_worker=task.outlives_worker,
            )
            egress = Egress(task.reaches, task.egress_limit)
            with self._machine(task, make, egress, running, pooled=kvm is None) as machine:
                self._refuse_second(task.id)
                result = session.carry_out(
                    machine.channel,
                    egress,
                    task,
                    redactor,
                    on_output,
                    boot_timeout_s=boot_timeout_s,
                    is_up=lambda: self._limit_cpu(machine, task),
                    body=body,
                )
                gone = machine.end()
            session.log_refused(task, result)
            if running.cancelled and result.ending is Ending.VM_LOST:
                result = replace(result, ending=Ending.CANCELLED, reason="cancelled")
            if not gone:
                reason = f"{result.reason}; its VM could not be proved gone".lstrip("; ")
                result = replace(result, ending=Ending.VM_LOST, code=None, reason=reason)
            return result

    def _limit_cpu(self, machine: Machine, task: VmTask) -> None:
        """Once it has booted: only the step is to be slow. `doctor` says where this is not possible."""
        if task.cpu_percent:
            self.holds_cpu = machine.limit_cpu(task.cpu_percent)
            if not self.holds_cpu:
                log.warning("this libvirt cannot hold a VM to cpu_percent", task=task.id, cpu_percent=task.cpu_percent)

    @contextmanager
    def _machine(
        self, task: VmTask, make: Make, egress: Egress, running: Running, *, pooled: bool
    ) -> Iterator[Machine]:
        """A VM for this task, from the pool or new; it and its memory are given back whatever happens."""
        with self._pool.at_work(make) if pooled else contextlib.nullcontext():
            taken = self._pool.take(make, task.id, task.run_id, egress) if pooled else None
            if taken is not None:
                self._at_work.reach(running, taken[0].channel)
            room = self._room(task, make, running) if taken is None else taken[1]
            machine: Machine | None = None
            try:
                machine = self._fresh(task, make, egress, running) if taken is None else taken[0]
                yield machine
            finally:
                if machine is not None:
                    machine.end()
                self._memory.release(room)

    def _room(self, task: VmTask, make: Make, running: Running) -> Room:
        return self._memory.room(
            task.run_id,
            make.cost_mb,
            urgent=task.outlives_worker,
            stopped=lambda: running.cancelled,
            within_s=CHANGE_WAITS_FOR_MEMORY_S if task.outlives_worker else WAITS_FOR_MEMORY_S,
        )

    def _fresh(self, task: VmTask, make: Make, egress: Egress, running: Running) -> Machine:
        if self._host.named(domain_name(task.id)):
            raise Refused(f"a VM of task {task.id} exists already", "every attempt has an id of its own")
        mark = self._workshop.mark(task.id, task.run_id)
        return self._workshop.fresh(make, mark, egress, lambda channel: self._at_work.reach(running, channel))

    def _refuse_second(self, task_id: str) -> None:
        """Whoever marked a VM with a task looks whether another has it: of two at least one does not begin."""
        if sum(found.mark.task == task_id for found in self._host.marked()) > 1:
            raise Refused(f"a VM of task {task_id} exists already", "every attempt has an id of its own")

    # -- the end of a VM

    def _destroy_found(self, task_id: str) -> bool:
        """A VM of ours that works for no task of this process."""
        found = [one for one in self._ours() if one.mark.task == task_id]
        for one in found:
            if not self._host.prove_gone(one.uuid):
                raise Unavailable(f"the VM of {task_id} could not be destroyed", self._host.remedy())
        return bool(found)

    def _ours(self) -> list[Found]:
        return [found for found in self._host.marked() if found.mark.owner == self._owner]

    # -- acceleration

    def _use_kvm(self, image_name: str) -> bool:
        with self._kvm_lock:
            if self._kvm is None:
                self._kvm = self._kvm_works(image_name)
            return self._kvm

    def _kvm_works(self, image_name: str) -> bool:
        """Whether a VM really boots under KVM: a device or a capability alone is no proof."""
        if not self._host.offers_kvm() or not KVM_DEVICE.exists():
            self._no_kvm = f"libvirt offers no KVM, or there is no {KVM_DEVICE}"
            return False
        try:
            result = self._trial(image_name, kvm=True, boot_timeout_s=TRIAL_TIMEOUT_S)
            failed = "" if result.ending is Ending.EXITED and result.code == 0 else result.reason or result.ending
        except Unavailable as error:
            self._host.connect()  # libvirt itself must be well, or this says nothing about KVM
            failed = str(error)
        self._no_kvm = f"a VM did not boot under KVM: {failed[:300]}"
        return not failed

    def _trial(self, image_name: str, *, kvm: bool, boot_timeout_s: float, look: Look = lambda *_: None) -> TaskResult:
        task = VmTask(
            id=f"trial-{uuid.uuid4()}",
            run_id="trial",
            image=image_name,
            argv=("echo", "up"),
            timeout_s=30,
            memory_mb=TRIAL_MEMORY_MB,
            cpu_percent=TRIAL_CPU_PERCENT,
        )

        def said(_: str) -> None:
            for found in self._ours():
                if found.mark.task == task.id:
                    look(found.uuid, self._host.xml(found.uuid))

        return self._run(task, NoSecrets(), said, kvm=kvm, boot_timeout_s=boot_timeout_s)
