"""The sweep: what nobody who lives works with goes, at the start and now and then; everything else stays."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from engine.runtime import logs
from engine.runtime.domain_xml import PREFIX, domain_name, sign_of
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, domains, eventually, foreign_domain, task
from tests.plugins_vm import URI, Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

OWNER = f"sweep-{os.getpid()}"


@pytest.fixture
def ours(vm_images: Path) -> Iterator[LibvirtHypervisor]:
    """A worker process that sweeps, with a VM in its pool."""
    made = LibvirtHypervisor(URI, vm_images, OWNER, "tcg", "sweeps", warm=1)
    yield made
    made.close()
    assert made.sweep() == ()


@pytest.fixture
def other(vm_images: Path) -> Iterator[LibvirtHypervisor]:
    """Another worker of the same installation on this machine."""
    made = LibvirtHypervisor(URI, vm_images, OWNER, "tcg", "another")
    yield made
    made.close()


def at_work(hypervisor: LibvirtHypervisor) -> Background:
    running = Background(hypervisor, task("echo ready; sleep 300", outlives_worker=True))
    running.wait_for("ready")
    return running


def test_only_what_nobody_works_with_is_swept(ours: LibvirtHypervisor, other: LibvirtHypervisor) -> None:
    """Not a living worker's VM, not one that waits in our own pool, not a foreign domain that is named like ours."""
    ours.keep_warm()
    eventually(lambda: ours.warm() == 1, 200, "one waits")
    mine, theirs = at_work(ours), at_work(other)
    with foreign_domain() as stranger:
        assert ours.sweep(lambda: ["sweeps", "another"]) == ()
        assert {domain_name(mine.task.id), domain_name(theirs.task.id), stranger} <= domains()
        assert ours.warm() >= 1

        assert ours.sweep(lambda: ["sweeps"]) == (theirs.task.id,), "the other process has died"
        assert domain_name(theirs.task.id) not in domains()
        assert {domain_name(mine.task.id), stranger} <= domains()

        lost = next(found for found in ours._ours() if found.mark.waits)
        ours._host.let_go(lost.uuid)  # as when libvirt did not answer while it was ended
        assert ours.sweep(lambda: ["sweeps"]) == (lost.mark.task,)
        assert lost.name not in domains()
        assert {domain_name(mine.task.id), stranger} <= domains()
    theirs.end()
    ours.destroy(mine.task.id)
    mine.end()


def test_a_worker_that_begins_meanwhile_loses_nothing(ours: LibvirtHypervisor, other: LibvirtHypervisor) -> None:
    """Who lives is asked after the VMs were listed. Here the answer is the oldest that it can be."""
    begun: list[Background] = []

    def living() -> Collection[str]:
        begun.append(at_work(other))
        return ["sweeps"]

    assert ours.sweep(living) == ()
    [running] = begun
    assert domain_name(running.task.id) in domains()
    other.destroy(running.task.id)
    running.end()


def test_nothing_is_swept_when_nobody_can_say_who_lives(ours: LibvirtHypervisor, other: LibvirtHypervisor) -> None:
    running = at_work(other)

    def away() -> Collection[str]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        ours.sweep(away)
    assert domain_name(running.task.id) in domains()
    other.destroy(running.task.id)
    running.end()


def test_old_logs_of_libvirt_go_with_the_sweep(ours: LibvirtHypervisor) -> None:
    """A real one carries our sign; another installation's stays."""
    done = task("true")
    ours.run(done, Plain(), print)
    where = logs.folder(URI)
    assert where is not None
    real = where / f"{domain_name(done.id)}.log"
    assert logs.is_signed(real, sign_of(OWNER))
    theirs = where / f"{PREFIX}theirs-{os.getpid()}.log"
    theirs.write_bytes(real.read_bytes().replace(sign_of(OWNER).encode(), sign_of("theirs").encode()))
    week_ago = time.time() - logs.KEPT_S - 60
    for file in (real, theirs):
        os.utime(file, (week_ago, week_ago))
    try:
        ours.sweep(lambda: ["sweeps"])
        assert not real.exists()
        assert theirs.exists()
    finally:
        theirs.unlink()
