"""Many VMs, several at a time, while the worker is killed again and again: every task is served, nothing is left."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.domain_xml import PREFIX, domain_name
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, domains, eventually, task, virsh
from tests.plugins_vm import ROOT, URI

pytestmark = pytest.mark.vm

SEED = 4
LATEST_S = 3.0
CHANNELS = (Path("/run/libvirt/qemu/channel"), Path("/var/lib/libvirt/qemu/channel/target"))

# A worker as it begins: it sweeps, then serves. Every other task changes something, so its VM outlives a kill.
WORKER = """
import sys, uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import task
from tests.plugins_vm import Plain
uri, images, owner, templates, at_once, *numbers = sys.argv[1:]
process = f"w-{uuid.uuid4().hex[:8]}"
ours = LibvirtHypervisor(uri, Path(images), owner, "tcg", process, warm=2, templates=Path(templates))
ours.sweep()
print("swept", flush=True)
def serve(number):
    work = task(f"echo served {number}", id=f"{owner}-{number}-{uuid.uuid4()}", outlives_worker=int(number) % 2 == 1)
    result = ours.run(work, Plain(), lambda _: None)
    said = result.stdout.strip() or f"{result.ending}: {result.reason}"
    print(said + "\\n", end="", flush=True)  # one write: several threads say something
with ThreadPoolExecutor(int(at_once)) as threads:
    list(threads.map(serve, numbers))
ours.close()
print("closed", flush=True)
"""


@pytest.fixture
def foreign(vm_images: Path) -> Iterator[str]:
    """A VM of another installation; its domain's name."""
    other = LibvirtHypervisor(URI, vm_images, f"row-foreign-{os.getpid()}", "tcg")
    running = Background(other, task("echo ready; sleep 3000", timeout_s=3000, outlives_worker=True))
    running.wait_for("ready")
    yield domain_name(running.task.id)
    other.close()


@pytest.mark.parametrize(
    ("count", "at_once", "kills"),
    [
        pytest.param(40, 4, 5, marks=pytest.mark.timeout(900)),
        pytest.param(200, 8, 10, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_every_task_is_served_and_nothing_is_left(
    vm_images: Path, tmp_path: Path, foreign: str, count: int, at_once: int, kills: int
) -> None:
    """No domain, socket, process or file; the foreign VM is untouched."""
    moments, owner = random.Random(SEED), f"row-{os.getpid()}"
    mounts = _mounts()
    left = {str(number) for number in range(count)}
    argv = [sys.executable, "-c", WORKER, URI, str(vm_images), owner, str(tmp_path), str(at_once)]
    for number in range(kills):
        if number == 1:
            _save_a_template(vm_images, owner, tmp_path)  # the first is killed while its VMs boot, the others clone
        after = moments.randint(0, max(1, len(left) // kills)) if number else 0
        left -= _served([*argv, *sorted(left, key=int)], kill_after=after, late_s=moments.uniform(0, LATEST_S))
    assert len(left) < count
    said = _served([*argv, *sorted(left, key=int)], kill_after=None, late_s=0)
    assert left | {"closed"} == said

    ours = LibvirtHypervisor(URI, vm_images, owner, "tcg", templates=tmp_path)
    try:
        assert ours._ours() == [], "the last worker swept what the killed ones left, and ended its own"
    finally:
        ours.sweep()
        ours.close()
    eventually(lambda: not _lost_processes(), 30, f"no QEMU that libvirt does not know: {_lost_processes()}")
    eventually(lambda: not _lost_sockets(), 30, f"no channel of a domain that is gone: {_lost_sockets()}")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["sha256", "vm.save"]
    assert _mounts() == mounts
    assert foreign in domains()


def _save_a_template(images: Path, owner: str, templates: Path) -> None:
    """So that the workers need not boot, which under emulation takes most of the time."""
    ours = LibvirtHypervisor(URI, images, owner, "tcg", warm=1, templates=templates)
    ours.sweep()
    ours.keep_warm()
    eventually(ours.warm, 200, "a clone waits")
    ours.close()


def _served(argv: list[str], *, kill_after: int | None, late_s: float) -> set[str]:
    """Numbers of the tasks that a worker served, until its end or its death some time after so many of them."""
    served: set[str] = set()
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        dying = False
        for line in worker.stdout:
            word = line.split()[-1]
            if word != "swept":
                assert line.startswith(("served", "closed")), line
                served.add(word)
            if kill_after is not None and len(served) >= kill_after and not dying:
                dying = True
                threading.Timer(late_s, worker.kill).start()
    return served


def _lost_processes() -> set[str]:
    """QEMUs of a Signalbox that libvirt knows nothing of."""
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(rf"guest=({PREFIX}[^,\s]+),", listed)) - domains()


def _lost_sockets() -> set[str]:
    """Folders of channels of domains that are not there any more."""
    ids = set(virsh("list", "--id").split())
    found = {path.name for folder in CHANNELS if folder.is_dir() for path in folder.glob(f"*-{PREFIX}*")}
    return {name for name in found if name.removeprefix("domain-").split("-")[0] not in ids}


def _mounts() -> set[str]:
    return {line for line in Path("/proc/mounts").read_text().splitlines() if "signalbox" in line}
