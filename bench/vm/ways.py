"""The ways to a VM whose first command ran. Each returns seconds, from asked to the command's first output."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.domain.ports import Ending, VmTask
from engine.runtime import image, session
from engine.runtime.channel import Channel
from engine.runtime.domain_xml import KERNEL_ARGUMENTS, TB_CACHE_MB, WAITING
from engine.runtime.egress import Egress
from engine.runtime.guest.wire import PORT
from engine.runtime.hypervisor import BOOT_TIMEOUT_S, USUAL_MEMORY_MB, LibvirtHypervisor
from engine.runtime.machine import Machine
from engine.runtime.output import NoSecrets
from engine.runtime.transport import Transport

PATIENCE_S = 600.0


class Stopwatch:
    """Stops at the first output."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self.seconds: float | None = None

    def heard(self, _text: str) -> None:
        """The command's output."""
        if self.seconds is None:
            self.seconds = time.perf_counter() - self._begun

    def read(self) -> float:
        """Seconds until the first output; an error when there was none."""
        if self.seconds is None:
            raise RuntimeError("the command printed nothing")
        return self.seconds


def task(**more: object) -> VmTask:
    """The first command: it prints a word."""
    fields: dict[str, object] = {"argv": ("echo", "ran"), "timeout_s": 120.0} | more
    return VmTask(id=f"bench-{uuid.uuid4()}", run_id="bench", image="step", **fields)  # type: ignore[arg-type]


def ours(hypervisor: LibvirtHypervisor) -> float:
    """As a step asks for it."""
    watch = Stopwatch()
    result = hypervisor.run(task(), NoSecrets(), watch.heard)
    if result.ending is not Ending.EXITED:
        raise RuntimeError(f"{result.ending}: {result.reason}")
    return watch.read()


def libvirt_alone(hypervisor: LibvirtHypervisor) -> float:
    """What `virsh start` does with the same domain, and the same agent and first command over libvirt's stream."""
    workshop, host = hypervisor._workshop, hypervisor._host
    make = workshop.make("step", USUAL_MEMORY_MB, kvm=bool(hypervisor._kvm), outlives_worker=False)
    watch = Stopwatch()
    machine = Machine(host, make)
    try:
        machine.boot(workshop._xml(make, workshop.mark(f"bench-{machine.id}", WAITING), machine.id))
        _first_command(machine.channel, watch)
    finally:
        machine.end()
    return watch.read()


def raw_qemu(images: Path, *, kvm: bool) -> float:
    """QEMU started by hand with the same kernel, root, memory and devices; the agent answers on a unix socket."""
    watch = Stopwatch()
    with raw(images, kvm=kvm) as channel:
        _first_command(channel, watch)
    return watch.read()


def _first_command(channel: Channel, watch: Stopwatch) -> None:
    session.carry_out(channel, Egress(()), task(), NoSecrets(), watch.heard, boot_timeout_s=BOOT_TIMEOUT_S)


@contextlib.contextmanager
def raw(images: Path, *, kvm: bool) -> Iterator[Channel]:
    """A VM without libvirt, while it lasts."""
    files = image.parts(images, "step")
    accel = "kvm" if kvm else f"tcg,tb-size={TB_CACHE_MB}"
    with tempfile.TemporaryDirectory(prefix="bench-vm-") as folder:
        path = f"{folder}/agent"
        command = ["qemu-system-x86_64", "-machine", "q35,vmport=off", "-accel", accel, "-cpu", "max", "-smp", "1"]
        command += ["-m", str(USUAL_MEMORY_MB), "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"]
        command += ["-kernel", str(files["vmlinuz"]), "-initrd", str(files["initrd.img"])]
        command += ["-append", KERNEL_ARGUMENTS]
        command += ["-drive", f"file={files['rootfs.erofs']},format=raw,if=virtio,readonly=on"]
        command += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={path},server=on,wait=off"]
        command += ["-device", f"virtserialport,chardev=agent,name={PORT}", "-device", "virtio-rng-pci"]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            try:
                transport = Transport()
                channel = Channel(transport.write, Egress(()))
                transport.attach(SocketLine(_connected(path, process), channel), channel)
                yield channel
                transport.close()
            finally:
                process.kill()


def _connected(path: str, process: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + PATIENCE_S
    end = socket.socket(socket.AF_UNIX)
    while True:
        try:
            end.connect(path)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return end


class SocketLine:
    """A unix socket as a line to the VM."""

    def __init__(self, end: socket.socket, channel: Channel) -> None:
        self._end = end
        threading.Thread(target=self._read, args=(channel,), daemon=True).start()

    def send(self, data: bytes) -> int:
        return self._end.send(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def _read(self, channel: Channel) -> None:
        with contextlib.suppress(OSError):
            while data := self._end.recv(65536):
                channel.received(data)
        channel.ended("the VM is gone")


@dataclass(frozen=True, slots=True)
class Fleet:
    """Our hypervisors: one that always boots, one whose pool is empty and clones, one with a pool."""

    cold: LibvirtHypervisor
    cloning: LibvirtHypervisor
    pooled: LibvirtHypervisor

    def settle(self, count: int) -> None:
        """Wait until the pool is full and stands still."""
        deadline = time.monotonic() + PATIENCE_S
        self.pooled._pool.most = count
        make = self.pooled._workshop.make("step", USUAL_MEMORY_MB, kvm=bool(self.pooled._kvm), outlives_worker=False)
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(self.pooled._pool.at_work(make))
        while self.pooled.warm() != count:
            if time.monotonic() > deadline:
                raise RuntimeError("the pool does not fill")
            time.sleep(0.05)


@contextlib.contextmanager
def fleet(uri: str, images: Path, *, kvm: bool, most: int) -> Iterator[Fleet]:
    """All three, with a template made before anything is measured."""
    accel, owner = ("kvm" if kvm else "tcg"), f"bench-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="bench-vm-templates-") as folder, contextlib.ExitStack() as stack:
        templates = Path(folder)

        def made(name: str, warm: int, saved: Path | None) -> LibvirtHypervisor:
            # one owner: a template is good for its owner only, and one of them saves what the other clones
            one = LibvirtHypervisor(uri, images, owner, accel, name, warm=warm, templates=saved)  # type: ignore[arg-type]
            stack.callback(one.close)
            return one

        ready = Fleet(made("cold", 0, None), made("cloning", 0, templates), made("pooled", most, templates))
        ready.settle(1)
        yield ready
