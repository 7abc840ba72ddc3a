"""When memory is short: who waits is told why, is served when there is room, and VMs of the pool go first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.domain.errors import Unavailable
from engine.domain.ports import Ending
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, eventually, task
from tests.plugins_vm import URI, Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

ROOM_FOR_ONE_MB = 700


@pytest.fixture
def narrow(vm_images: Path) -> Iterator[LibvirtHypervisor]:
    """A hypervisor with memory for one VM."""
    made = LibvirtHypervisor(URI, vm_images, f"narrow-{os.getpid()}", "tcg", warm=1, memory_mb=ROOM_FOR_ONE_MB)
    yield made
    made.close()
    assert made.sweep() == ()


def test_a_second_task_waits_for_memory_and_is_served_when_the_first_has_ended(narrow: LibvirtHypervisor) -> None:
    """Meanwhile a run at its boundary is told to wait, with the reason; a cancel ends the wait at once."""
    assert narrow.room() == 1
    assert narrow.shortage() == ""
    first = Background(narrow, task("echo ready; sleep 300"))
    first.wait_for("ready")
    assert narrow.shortage().startswith("memory for a VM: 576 MB needed, 576 of 700 MB used by 1 VMs")
    narrow.reachable()  # busy, not away
    second, third = Background(narrow, task("echo served")), Background(narrow, task("true"))
    eventually(lambda: narrow._memory.describe().endswith("2 wait"), 30, "both wait")
    assert narrow.destroy(third.task.id) is True
    assert "cancelled" in str(third.error)
    assert narrow.destroy(first.task.id) is True
    assert second.end(200).stdout == "served\n"
    assert first.end().ending is Ending.CANCELLED
    assert narrow.shortage() == ""


def test_a_vm_that_waits_in_the_pool_makes_room_for_a_task_of_another_make(narrow: LibvirtHypervisor) -> None:
    """It was booted for reading steps; the task changes something."""
    narrow.keep_warm()
    eventually(lambda: narrow.warm() == 1, 200, "one waits")
    assert narrow.shortage() == ""
    result = narrow.run(task("echo served", outlives_worker=True), Plain(), print)
    assert result.stdout == "served\n"


def test_a_task_that_needs_more_than_all_may_use_says_which_setting_to_raise(narrow: LibvirtHypervisor) -> None:
    with pytest.raises(Unavailable) as caught:
        narrow.run(task("true", memory_mb=1024), Plain(), print)
    assert "SIGNALBOX_VM_MEMORY_MB" in caught.value.remedy
