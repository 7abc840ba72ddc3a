"""What holds a QEMU whose guest broke out: read off a VM that runs. Each line seen red: the unit test of this name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.runtime import confinement, image
from engine.runtime.confinement import Process
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, task

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

# what only the machine can give: AppArmor or SELinux; images of a user that is not QEMU's (session mode: it is)
OF_THE_MACHINE = {"qemu-label"} | (set() if os.geteuid() == 0 else {"image-files"})


def test_qemu_is_held_and_the_vm_has_nothing_that_it_does_not_need(
    hypervisor: LibvirtHypervisor, vm_images: Path
) -> None:
    running = Background(hypervisor, task("echo ready; sleep 300"))
    running.wait_for("ready")
    [found] = [one for one in hypervisor._ours() if one.mark.task == running.task.id]
    process = confinement.process_of(found.uuid)
    xml = hypervisor._host.xml(found.uuid)
    files = image.parts(vm_images, "step")
    try:
        assert process is not None
        findings = list(confinement.judge(xml, process, files))
        assert {one.part: one.text for one in findings if not one.well and one.part not in OF_THE_MACHINE} == {}
        plainly(process, xml)
        assert os.geteuid() != 0 or process.uid not in {path.stat().st_uid for path in files.values()}
    finally:
        hypervisor.destroy(running.task.id)
        running.end()


def plainly(process: Process, xml: str) -> None:
    """The same in other words, so that a mistake of the judge does not hide itself."""
    words = " ".join(process.command)
    assert "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny" in words
    assert process.filtered
    assert process.uid != 0
    assert process.capabilities == 0
    assert "-display none" in words
    assert "-nodefaults" in words
    assert "-machine pc-q35" in words
    assert "usb=off" in words
    assert '"read-only":true' in words
    assert "-netdev" not in words
    for word in ("<graphics", "<video", "<filesystem", "<interface", "<hostdev", "<shmem", "<tpm", "<sound"):
        assert word not in xml
    assert "<controller type='usb' index='0' model='none'>" in xml
    assert "<memballoon model='none'/>" in xml


@pytest.mark.parametrize("part", image.PARTS)
def test_a_running_vm_leaves_the_image_to_its_owner(part: str, hypervisor: LibvirtHypervisor, vm_images: Path) -> None:
    """libvirt would make kernel and initramfs QEMU's own while a VM runs: the next one would boot what it wrote."""
    file = vm_images / "step" / part
    owner = file.stat().st_uid, file.stat().st_gid, file.stat().st_mode
    seen: list[tuple[int, int, int]] = []
    hypervisor.trial_boot(look=lambda *_: seen.append((file.stat().st_uid, file.stat().st_gid, file.stat().st_mode)))
    assert seen == [owner]
