"""Throw-away VMs by libvirt: the one home of the libvirt library. Implements `engine.domain.ports.Hypervisor`.

Transient domains only, known again by a mark in their metadata. A VM is destroyed, and proved gone, before `run`
returns; libvirt's death is noticed at once and ends the task. libvirt's calls block and release the interpreter, so
they are made plainly from the worker's threads; its event loop is one daemon thread.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import libvirt

from engine.domain.errors import BadInput, Refused, Unavailable
from engine.domain.ports import Ending, Redactor, TaskResult, VmTask
from engine.runtime import domain_xml, image, session
from engine.runtime.channel import Channel
from engine.runtime.domain_xml import Mark
from engine.runtime.egress import Egress
from engine.runtime.guest.wire import PORT
from engine.runtime.output import NoSecrets
from engine.runtime.transport import Transport

Accel = Literal["auto", "kvm", "tcg"]
KVM_DEVICE = Path("/dev/kvm")
BOOT_TIMEOUT_S = 180.0
TRIAL_TIMEOUT_S = 20.0  # KVM boots in a second or two, or never
GONE_TIMEOUT_S = 20.0
TRIAL_MEMORY_MB = 256
KEEPALIVE = (10, 6)  # seconds, tries: for a libvirtd that hangs; a dead one closes its socket
MAX_BARRED = 10_000
UNMARKED = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_METADATA})
READABLE = libvirt.VIR_STREAM_EVENT_READABLE
LINE_EVENTS = READABLE | libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
WOULD_BLOCK = -2  # of virStreamSend and virStreamRecv

_events = threading.Lock()
_event_thread: threading.Thread | None = None


@dataclass(slots=True)
class _Running:
    """A task that this process runs now."""

    channel: Channel
    connection: Any
    thread: int
    cancelled: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class LibvirtHypervisor:
    """VMs on one libvirt. Connects when first needed, and again after libvirtd came back. Thread-safe.

    `images`: the folder of guest images. `owner`: this host's mark; only VMs that carry it are ever touched. `process`:
    who works with the VMs that this process starts.
    `accel`: "auto" believes a short real boot under KVM, never libvirt's capabilities.
    """

    def __init__(self, uri: str, images: Path, owner: str, accel: Accel = "auto", process: str = "nobody") -> None:
        for mark in (owner, process):
            if not session.NAME.fullmatch(mark):
                raise BadInput(f"mark {mark!r} is not plain", "use letters, digits, . _ -")
        self._uri, self._images, self._owner, self._accel = uri, images, owner, accel
        self._process = process
        self._connecting = threading.Lock()
        self._connection: Any = None
        self._capabilities = ""
        self._kvm: bool | None = {"kvm": True, "tcg": False}.get(accel)
        self._kvm_lock = threading.Lock()
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._barred: dict[str, None] = {}  # ids that were destroyed, oldest first

    # -- the port

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:
        """See `ports.Hypervisor.run`. Raises BadInput, Unavailable, Refused (a VM of this id exists)."""
        session.check(task)
        return self._run(task, redactor, on_output, kvm=None, boot_timeout_s=BOOT_TIMEOUT_S)

    def destroy(self, task_id: str) -> bool:
        """See `ports.Hypervisor.destroy`: returns when the VM is gone, raises Unavailable if unproved.

        A task that has not begun yet will not: its id is barred.
        """
        with self._lock:
            running = self._running.get(task_id)
            self._barred[task_id] = None
            while len(self._barred) > MAX_BARRED:
                del self._barred[next(iter(self._barred))]
        if running is None:
            return self._destroy_found(task_id)
        running.cancelled = True
        running.channel.ended("cancelled")
        if running.thread != threading.get_ident() and not running.done.wait(2 * GONE_TIMEOUT_S):
            raise Unavailable(f"the VM of {task_id} did not end", "look at libvirtd")
        return True

    def sweep(self, living: Collection[str] = ()) -> tuple[str, ...]:
        """See `ports.Hypervisor.sweep`. Raises Unavailable."""
        return self._destroy_all(lambda mark: mark.process not in living)

    def destroy_all_of(self, run_id: str) -> tuple[str, ...]:
        """See `ports.Hypervisor.destroy_all_of`."""
        return self._destroy_all(lambda mark: mark.run == run_id)

    def _destroy_all(self, doomed: Callable[[Mark], bool]) -> tuple[str, ...]:
        tasks = [mark.task for _, mark in self._ours() if doomed(mark)]
        return tuple(task_id for task_id in tasks if self.destroy(task_id))

    def image_digest(self, image_name: str) -> str:
        """See `ports.Hypervisor.image_digest`."""
        return image.image_digest(self._images, image_name)

    def reachable(self) -> None:
        """See `ports.Hypervisor.reachable`."""
        try:
            self._connect().getLibVersion()
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt does not answer", error) from None

    def trial_boot(self, image_name: str = "step") -> float:
        """Boot a VM, run `true` in it, destroy it: seconds. Raises Unavailable with what went wrong, BadInput."""
        begun = time.monotonic()
        result = self._trial(image_name, kvm=self._use_kvm(image_name), boot_timeout_s=BOOT_TIMEOUT_S)
        if result.ending is not Ending.EXITED or result.code != 0:
            raise Unavailable(f"a trial VM did not work: {result.reason or result.ending}", self._remedy())
        return time.monotonic() - begun

    def describe(self) -> str:
        """One line for `doctor`: where VMs run and how. Raises Unavailable."""
        version = self._connect().getVersion()
        how = {True: "KVM", False: "TCG (no KVM: slow)", None: "acceleration not probed yet"}[self._kvm]
        return f"{self._uri}, QEMU {version // 1000000}.{version // 1000 % 1000}.{version % 1000}, {how}"

    def close(self) -> None:
        """End what runs and disconnect."""
        for task_id in list(self._running):
            self.destroy(task_id)
        with self._connecting, contextlib.suppress(libvirt.libvirtError):
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    # -- one task

    def _run(
        self,
        task: VmTask,
        redactor: Redactor,
        on_output: Callable[[str], None],
        *,
        kvm: bool | None,
        boot_timeout_s: float,
    ) -> TaskResult:
        connection = self._connect()
        domain_id = str(uuid.uuid4())
        egress = Egress(task.reaches)
        transport = Transport()
        channel = Channel(transport.write, egress)
        with self._registered(task.id, channel, connection) as running:
            self._refuse_second(connection, task.id)
            xml = self._xml(task, domain_id, kvm=self._use_kvm(task.image) if kvm is None else kvm)
            try:
                self._start(connection, task, xml, transport, channel)
                result = session.carry_out(channel, egress, task, redactor, on_output, boot_timeout_s=boot_timeout_s)
            finally:
                transport.close()
                gone = self._prove_gone(domain_id)
            if running.cancelled and result.ending is Ending.VM_LOST:
                result = replace(result, ending=Ending.CANCELLED, reason="cancelled")
            if not gone:
                reason = f"{result.reason}; its VM could not be proved gone".lstrip("; ")
                result = replace(result, ending=Ending.VM_LOST, code=None, reason=reason)
            return result

    @contextmanager
    def _registered(self, task_id: str, channel: Channel, connection: Any) -> Iterator[_Running]:
        running = _Running(channel, connection, threading.get_ident())
        with self._lock:
            if task_id in self._running:
                raise Refused(f"task {task_id} runs already", "every attempt has an id of its own")
            if task_id in self._barred:
                raise Refused(f"task {task_id} was cancelled before it began", "every attempt has an id of its own")
            self._running[task_id] = running
        try:
            yield running
        finally:
            with self._lock:
                del self._running[task_id]
            running.done.set()

    def _refuse_second(self, connection: Any, task_id: str) -> None:
        try:
            present = _lookup(connection.lookupByName, domain_xml.domain_name(task_id))
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt does not answer", error) from None
        if present is not None:
            raise Refused(f"a VM of task {task_id} exists already", "every attempt has an id of its own")

    def _start(self, connection: Any, task: VmTask, xml: str, transport: Transport, channel: Channel) -> None:
        flags = 0 if task.outlives_worker else libvirt.VIR_DOMAIN_START_AUTODESTROY
        try:
            domain = connection.createXML(xml, flags)
            stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
            domain.openChannel(PORT, stream, libvirt.VIR_DOMAIN_CHANNEL_FORCE)
            transport.attach(_StreamLine(stream, channel), channel)
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt could not start a VM", error) from None

    def _xml(self, task: VmTask, domain_id: str, *, kvm: bool) -> str:
        files = image.parts(self._images, task.image)
        dac = re.search(r"<model>dac</model>.*?<baselabel[^>]*>\+(\d+):\+(\d+)<", self._capabilities, re.DOTALL)
        if dac is not None:
            image.check_readable(files, int(dac[1]), int(dac[2]))
        mark = Mark(owner=self._owner, process=self._process, task=task.id, run=task.run_id)
        return domain_xml.domain(mark, domain_id, files, memory_mb=task.memory_mb, kvm=kvm, relabel=dac is None)

    # -- the end of a VM

    def _prove_gone(self, domain_id: str) -> bool:
        """Destroy this VM until libvirt says that there is none; False when libvirt does not answer."""
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                domain = _lookup(self._connect().lookupByUUIDString, domain_id)
                if domain is None:
                    return True
                domain.destroy()
            except (Unavailable, libvirt.libvirtError):
                time.sleep(0.2)
        return False

    def _destroy_found(self, task_id: str) -> bool:
        """A VM of ours that this process does not run."""
        found = [domain for domain, mark in self._ours() if mark.task == task_id]
        for domain in found:
            if not self._prove_gone(domain.UUIDString()):
                raise Unavailable(f"the VM of {task_id} could not be destroyed", self._remedy())
        return bool(found)

    def _ours(self) -> list[tuple[Any, Mark]]:
        try:
            marked = [(domain, _mark(domain)) for domain in self._connect().listAllDomains()]
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt does not answer", error) from None
        return [(domain, mark) for domain, mark in marked if mark is not None and mark.owner == self._owner]

    # -- libvirt

    def _connect(self) -> Any:
        with self._connecting:
            if self._connection is not None and _alive(self._connection):
                return self._connection
            _start_events()
            try:
                connection = libvirt.open(self._uri)
                connection.setKeepAlive(*KEEPALIVE)
                # A dying libvirtd does not end open streams by itself: without this a task waits for its time-out.
                connection.registerCloseCallback(self._lost, None)
                self._capabilities = connection.getCapabilities()
            except libvirt.libvirtError as error:
                raise self._unavailable(f"libvirt at {self._uri} does not answer", error) from None
            self._connection = connection
            return connection

    def _lost(self, connection: Any, _reason: int, _opaque: None) -> None:
        with self._lock:
            channels = [running.channel for running in self._running.values() if running.connection is connection]
        for channel in channels:
            channel.ended("the connection to libvirt was lost")

    def _unavailable(self, what: str, error: Exception) -> Unavailable:
        return Unavailable(f"{what}: {error}", self._remedy())

    def _remedy(self) -> str:
        if "system" in self._uri:
            return "start libvirtd (scripts/libvirtd.py start, or systemctl start libvirtd), then: signalbox doctor"
        return f"see that libvirt answers: virsh -c {self._uri} version; then: signalbox doctor"

    # -- acceleration

    def _use_kvm(self, image_name: str) -> bool:
        with self._kvm_lock:
            if self._kvm is None:
                self._kvm = self._kvm_works(image_name)
            return self._kvm

    def _kvm_works(self, image_name: str) -> bool:
        """Whether a VM really boots under KVM: a device or a capability alone is no proof."""
        self._connect()
        if not KVM_DEVICE.exists() or "<domain type='kvm'" not in self._capabilities:
            return False
        try:
            result = self._trial(image_name, kvm=True, boot_timeout_s=TRIAL_TIMEOUT_S)
        except Unavailable:
            self._connect()  # libvirt itself must be well, or this says nothing about KVM
            return False
        return result.ending is Ending.EXITED and result.code == 0

    def _trial(self, image_name: str, *, kvm: bool, boot_timeout_s: float) -> TaskResult:
        task = VmTask(
            id=f"trial-{uuid.uuid4()}",
            run_id="trial",
            image=image_name,
            argv=("true",),
            timeout_s=30,
            memory_mb=TRIAL_MEMORY_MB,
        )
        return self._run(task, NoSecrets(), lambda _: None, kvm=kvm, boot_timeout_s=boot_timeout_s)


class _StreamLine:
    """A libvirt stream as a line. Its events come on libvirt's thread and go straight to the channel."""

    def __init__(self, stream: Any, channel: Channel) -> None:
        self._stream, self._channel = stream, channel
        stream.eventAddCallback(LINE_EVENTS, self._event, None)

    def send(self, data: bytes) -> int:
        try:
            taken: int = self._stream.send(data)
        except libvirt.libvirtError as error:
            raise OSError(str(error)) from None
        return 0 if taken == WOULD_BLOCK else taken

    def close(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.eventRemoveCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.abort()

    def _event(self, stream: Any, events: int, _opaque: None) -> None:
        try:
            data = stream.recv(256 * 1024) if events & READABLE else b""
            if data == WOULD_BLOCK:
                return
            if data:
                self._channel.received(data)
                return
            reason = "the VM is gone"
        except Exception as error:  # noqa: BLE001 - the rim to libvirt's C code, which would swallow it: nobody waits in vain
            reason = f"the line to the VM broke: {error}"
        self._channel.ended(reason)
        with contextlib.suppress(libvirt.libvirtError):
            stream.eventRemoveCallback()


def _start_events() -> None:
    """libvirt's own event loop in one thread for the process; it must be registered before the first connection."""
    global _event_thread  # noqa: PLW0603 - libvirt's registration is process-wide and happens once
    with _events:
        if _event_thread is None:
            libvirt.virEventRegisterDefaultImpl()
            libvirt.registerErrorHandler(lambda *_: None, None)  # errors arrive as exceptions; keep stderr clean
            _event_thread = threading.Thread(target=_loop, daemon=True, name="libvirt-events")
            _event_thread.start()


def _loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _alive(connection: Any) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def _lookup(look: Callable[[str], Any], name: str) -> Any:
    """What `look` finds, or None; raises libvirtError when libvirt does not answer."""
    try:
        return look(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _mark(domain: Any) -> Mark | None:
    """Our mark on a domain; None for a foreign one, or one that is just going."""
    try:
        return domain_xml.read_mark(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, domain_xml.NAMESPACE))
    except libvirt.libvirtError as error:
        if error.get_error_code() in UNMARKED:
            return None
        raise
