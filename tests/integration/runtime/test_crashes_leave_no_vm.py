"""Workers and libvirtd die: what becomes of the VMs, and who notices."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.domain.errors import BadInput, Unavailable
from engine.domain.ports import Ending
from engine.runtime.domain_xml import domain_name
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, domains, eventually, task, virsh
from tests.plugins_vm import ROOT, URI, Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

RELAYED = f"relay-{os.getpid()}"

# A worker of its own: a reading step, a changing step, and a VM of another installation.
WORKER = """
import sys, time
from pathlib import Path
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, task
uri, images, owner = sys.argv[1:4]
ours, foreign = (LibvirtHypervisor(uri, Path(images), name, "tcg") for name in (owner, owner + "-foreign"))
running = [
    Background(ours, task("echo ready; sleep 300", id=owner + "-read", timeout_s=400)),
    Background(ours, task("echo ready; sleep 300", id=owner + "-write", timeout_s=400, outlives_worker=True)),
    Background(foreign, task("echo ready; sleep 300", id=owner + "-alien", timeout_s=400, outlives_worker=True)),
]
for one in running: one.wait_for("ready")
print("all run", flush=True)
time.sleep(600)
"""


def test_after_kill_9_of_the_worker_a_reading_vm_dies_a_changing_one_lives_until_the_sweep(vm_images: Path) -> None:
    """And the sweep destroys what carries our mark, keeps what it is told to, and leaves foreign VMs alone."""
    owner = f"crash-{os.getpid()}"
    read, write, alien = (f"{owner}-{kind}" for kind in ("read", "write", "alien"))
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, URI, str(vm_images), owner], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        try:
            assert worker.stdout.readline() == "all run\n"
            assert {domain_name(name) for name in (read, write, alien)} <= domains()
            virsh("suspend", domain_name(read))  # its guest would end itself: here libvirt has to
        finally:
            os.kill(worker.pid, signal.SIGKILL)
    ours = LibvirtHypervisor(URI, vm_images, owner, "tcg")
    foreign = LibvirtHypervisor(URI, vm_images, owner + "-foreign", "tcg")
    try:
        eventually(lambda: domain_name(read) not in domains(), 20, "the reading VM is gone")
        assert {domain_name(write), domain_name(alien)} <= domains()
        assert ours.sweep(living=lambda: ["nobody"]) == ()
        assert domain_name(write) in domains()
        assert ours.sweep() == (write,)
        assert domain_name(write) not in domains()
        assert domain_name(alien) in domains()
        assert foreign.destroy(alien) is True
    finally:
        ours.sweep()
        foreign.sweep()
        ours.close()
        foreign.close()


class _Relay:
    """A unix socket in front of libvirtd, so that a test can cut the connection without harming others' VMs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pairs: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def open(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self, *, reopen: bool) -> None:
        """libvirtd dies; `reopen`: and is back at once."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.path.unlink(missing_ok=True)
        for end in self._pairs:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if reopen:
            self.open()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.socket(socket.AF_UNIX)
                there.connect("/run/libvirt/libvirt-sock")
                self._pairs += [here, there]
                for a, b in ((here, there), (there, here)):
                    threading.Thread(target=self._copy, args=(a, b), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay(tmp_path: Path, vm_images: Path) -> Iterator[_Relay]:
    made = _Relay(tmp_path / "libvirt.sock")
    made.open()
    yield made
    made.cut(reopen=False)
    for end in made._pairs:
        end.close()
    direct = LibvirtHypervisor(URI, vm_images, RELAYED, "tcg")
    direct.sweep()
    direct.close()


def test_a_lost_libvirtd_ends_the_task_at_once_and_the_vm_is_destroyed_when_it_is_back(
    relay: _Relay, vm_images: Path
) -> None:
    """VM_LOST within seconds, not after the task's own timeout; then libvirt works again without a restart of ours."""
    uri = f"qemu+unix:///system?socket={relay.path}"
    hypervisor = LibvirtHypervisor(uri, vm_images, RELAYED, "tcg")
    running = Background(hypervisor, task("echo ready; sleep 300", timeout_s=290, outlives_worker=True))
    running.wait_for("ready")
    begun = time.monotonic()
    relay.cut(reopen=True)
    result = running.end()
    assert result.ending is Ending.VM_LOST
    assert time.monotonic() - begun < 15
    assert domain_name(running.task.id) not in domains()

    relay.cut(reopen=False)
    eventually(lambda: not _reachable(hypervisor), 10, "libvirt is known to be away")
    with pytest.raises(Unavailable) as caught:
        hypervisor.run(task("true"), Plain(), print)
    assert "scripts/libvirtd.py start" in caught.value.remedy
    relay.open()
    assert _reachable(hypervisor)
    assert hypervisor.sweep() == ()
    hypervisor.close()


def _reachable(hypervisor: LibvirtHypervisor) -> bool:
    try:
        hypervisor.reachable()
    except Unavailable:
        return False
    return True


def test_a_folder_that_qemu_may_not_enter_is_named_with_the_remedy(vm_images: Path, tmp_path: Path) -> None:
    """pytest's own temporary folders are 0700, as a home directory is."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "step").symlink_to(vm_images / "step")
    closed = next(parent for parent in reversed(images.parents) if not parent.stat().st_mode & 0o001)
    hypervisor = LibvirtHypervisor(URI, images, "closed-folder", "tcg")
    with pytest.raises(BadInput) as caught:
        hypervisor.run(task("true"), Plain(), print)
    assert str(caught.value).startswith(f"{closed} cannot be entered")
    assert "SIGNALBOX_IMAGES=/var/lib/signalbox/images" in caught.value.remedy
    hypervisor.close()
