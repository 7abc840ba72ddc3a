"""VMs that wait for their task: what they know before, who they are after, what becomes of them when nobody comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.domain.errors import Refused
from engine.domain.ports import Ending, FileIn, SecretValue, TaskResult
from engine.runtime.domain_xml import WAITING, domain_name
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, domains, eventually, task, virsh
from tests.plugins_vm import ROOT, URI, Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

IDENTITY = """
cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' '
date +%s.%N; ls -A /step /run/secrets | xargs
"""
OWNER = f"pool-{os.getpid()}"

# A worker that keeps one VM of either kind ready, and does nothing.
WORKER = """
import sys, time
from pathlib import Path
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, task
uri, images, owner = sys.argv[1:4]
ours = LibvirtHypervisor(uri, Path(images), owner, "tcg", "worker", warm=1)
ours.keep_warm()
changing = Background(ours, task("echo ready; sleep 300", id=owner + "-write", timeout_s=400, outlives_worker=True))
changing.wait_for("ready")
while ours.warm() < 2: time.sleep(0.1)
print("both wait", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def warm(vm_images: Path) -> Iterator[LibvirtHypervisor]:
    """A hypervisor with a pool."""
    made = LibvirtHypervisor(URI, vm_images, OWNER, "tcg", "tests", warm=2)
    made.keep_warm()
    yield made
    made.close()
    assert made.sweep() == (), "closing ends what waits"


def waiting_domains() -> set[str]:
    """The names of VMs that wait."""
    return {name for name in domains() if "waiting" in name and f'owner="{OWNER}"' in virsh("dumpxml", name)}


def ready(hypervisor: LibvirtHypervisor, count: int = 1) -> None:
    """Wait until so many VMs wait."""
    eventually(lambda: hypervisor.warm() >= count, 300, f"{count} VMs wait")


def test_a_vm_that_waits_stands_still_and_says_that_it_has_no_task(warm: LibvirtHypervisor) -> None:
    """Its mark names owner and process, so that every sweep knows it."""
    ready(warm)
    (name, *_) = waiting_domains()
    xml = virsh("dumpxml", name)
    assert virsh("domstate", name).strip() == "paused"
    assert f'owner="{OWNER}" process="tests"' in xml
    assert f'run="{WAITING}"' in xml


def test_a_task_takes_a_vm_that_waited_and_no_second_task_gets_it(warm: LibvirtHypervisor) -> None:
    """While it works, libvirt tells for which task and run; afterwards it is gone, and another one is made ready."""
    ready(warm)
    before = waiting_domains()
    running = Background(warm, task("echo ready; cat; sleep 300", stdin=b"in", run_id="run-7"))
    running.wait_for("ready")
    taken = {name for name in before if f'task="{running.task.id}" run="run-7"' in virsh("dumpxml", name)}
    assert len(taken) == 1
    assert domain_name(running.task.id) not in domains()
    with pytest.raises(Refused):
        LibvirtHypervisor(URI, warm._images, "somebody-else", "tcg").run(running.task, Plain(), print)
    assert warm.destroy_all_of("run-7") == (running.task.id,)
    assert running.end().ending is Ending.CANCELLED
    assert not taken & domains()
    ready(warm)
    assert not taken & domains()


def told(result: TaskResult) -> tuple[list[str], float, str]:
    """Who a VM says that it is, its clock, and what it finds in its folders."""
    assert (result.ending, result.reason) == (Ending.EXITED, "")
    *who, clock, left = result.stdout.split("\n")[:-1]
    return who, float(clock), left


def test_vms_of_the_pool_differ_and_know_nothing_of_one_another(warm: LibvirtHypervisor) -> None:
    """Machine id, boot id, hostname, random bytes; a clock that stood still is right; no file of another step."""
    identities = []
    for number in range(2):
        ready(warm)
        time_waited = time.monotonic() + 3
        eventually(lambda until=time_waited: time.monotonic() > until, 10, "its clock is wrong by now")  # type: ignore[misc]
        work = task(
            IDENTITY,
            files=(FileIn(path=f"/step/file-{number}", content=b"x"),),
            secrets=(SecretValue(name=f"secret-{number}", value="v"),),
        )
        begun = time.time()
        result = warm.run(work, Plain(), print)
        who, clock, left = told(result)
        assert begun - 1 < clock < time.time() + 1
        assert left == f"/run/secrets: secret-{number} /step: file-{number}"
        identities.append(who)
    for first, second in zip(*identities, strict=True):
        assert first != second
        assert len(first) >= 8
    assert identities[0][2] == f"step-{identities[0][0][:8]}"


def test_a_vm_that_died_while_it_waited_is_not_handed_out(warm: LibvirtHypervisor) -> None:
    """The task boots its own."""
    ready(warm)
    for name in waiting_domains():
        virsh("destroy", name)
    assert warm.run(task("echo served"), Plain(), print).stdout == "served\n"


def test_a_vm_of_an_older_image_is_not_handed_out(vm_images: Path) -> None:
    """What was hashed for the order is what boots."""
    folder = vm_images / f"pool-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    hypervisor = LibvirtHypervisor(URI, vm_images, OWNER + "-old", "tcg", warm=1)
    try:
        for part in ("vmlinuz", "initrd.img", "rootfs.erofs"):
            (folder / part).write_bytes((vm_images / "step" / part).read_bytes())
        hypervisor.keep_warm(folder.name)
        ready(hypervisor)
        (folder / "initrd.img").write_bytes(b"not what was tested")
        assert (
            hypervisor._pool.take(
                hypervisor._workshop.make(folder.name, 384, kvm=False, outlives_worker=False),
                "t",
                "r",
                None,  # type: ignore[arg-type]
            )
            is None
        )
        eventually(lambda: hypervisor.warm() == 0, 30, "the stale one is destroyed")
    finally:
        hypervisor.close()
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_two_clones_of_one_saved_vm_differ_and_their_clocks_are_right(vm_images: Path, tmp_path: Path) -> None:
    """Machine id, boot id, hostname, random bytes. Both were saved in one moment, and neither waited in the pool."""
    hypervisor = LibvirtHypervisor(URI, vm_images, OWNER + "-clone", "tcg", warm=1, templates=tmp_path / "templates")
    try:
        hypervisor.keep_warm()
        ready(hypervisor)
        [saved] = (tmp_path / "templates").glob("*/vm.save")
        inode = saved.stat().st_ino
        hypervisor._pool.most = 0
        eventually(lambda: hypervisor.warm() == 0, 30, "the pool is empty")
        identities = []
        for _ in range(2):
            begun = time.time()
            who, clock, left = told(hypervisor.run(task(IDENTITY), Plain(), print))
            assert begun - 1 < clock < time.time() + 1
            assert left == "/run/secrets: /step:"
            identities.append(who)
        for first, second in zip(*identities, strict=True):
            assert first != second
        assert [path.name for path in saved.parent.iterdir() if path.name not in {"vm.save", "sha256"}] == []
        assert saved.stat().st_ino == inode
    finally:
        hypervisor.close()
        assert hypervisor.sweep() == ()


def test_after_kill_9_a_reading_vm_that_waited_dies_and_the_sweep_ends_a_changing_one(vm_images: Path) -> None:
    """The one for a changing step could not be told later to outlive us, so it does from the start: it is swept."""
    owner = f"{OWNER}-kill"
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, URI, str(vm_images), owner], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        try:
            assert "both wait\n" in worker.stdout  # it logs before that
        finally:
            os.kill(worker.pid, signal.SIGKILL)
    ours = LibvirtHypervisor(URI, vm_images, owner, "tcg")
    try:
        eventually(lambda: len(ours._ours()) == 2, 30, "libvirt destroyed the reading one that waited")
        assert ours.sweep(living=lambda: ["worker"]) == ()
        swept = ours.sweep()
        assert f"{owner}-write" in swept
        assert [name.startswith("waiting-") for name in sorted(swept)] == [False, True]
        assert ours._ours() == []
    finally:
        ours.sweep()
        ours.close()
