"""Each thing that holds QEMU, taken away: the doctor's line about it turns, and no other does.

What is judged here as well is what a real VM shows: tests/integration/runtime/test_confinement.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.runtime import confinement, domain_xml, image
from engine.runtime.confinement import Process
from engine.runtime.domain_xml import Mark

QEMU = 64055
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
COMMAND = (
    "/usr/bin/qemu-system-x86_64", "-machine", "pc-q35-7.2,usb=off", "-display", "none", "-nodefaults",
    "-device", '{"driver":"virtio-serial-pci","id":"virtio-serial0"}',
    "-blockdev", '{"driver":"file","filename":"/images/usb-vga-9p/rootfs.erofs","auto-read-only":true}',
    "-blockdev", '{"node-name":"libvirt-1-format","read-only":true,"driver":"raw","file":"libvirt-1-storage"}',
    "-device", '{"driver":"virtio-blk-pci","drive":"libvirt-1-format"}', "-device", "virtio-rng-pci,rng=objrng0",
    "-sandbox", SANDBOX,
)  # fmt: skip
HELD = Process(
    command=COMMAND,
    uid=QEMU,
    groups=frozenset({QEMU, 108}),
    capabilities=0,
    filtered=True,
    label="libvirt-1234 (enforce)",
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """An image as `image build` leaves it. Folders above it are open in a test, and judged as the real ones are not."""
    folder = tmp_path / "step"
    folder.mkdir(mode=0o755)
    parts = {name: folder / name for name in image.PARTS}
    for part in parts.values():
        part.write_bytes(b"x")
        part.chmod(0o644)
    return parts


def xml(files: dict[str, Path]) -> str:
    mark = Mark(owner="o", process="p", task="t", run="r")
    return domain_xml.domain(mark, "uuid", files, memory_mb=384, kvm=True, qemu_user=(QEMU, QEMU))


def unwell(xml: str, process: Process | None, files: dict[str, Path]) -> dict[str, str]:
    """What is not well: part -> text. Each has a remedy."""
    found = [one for one in confinement.judge(xml, process, files) if not one.well]
    assert all(one.remedy for one in found)
    return {one.part: one.text for one in found}


def test_a_vm_of_ours_is_held_by_everything(files: dict[str, Path]) -> None:
    """A path may contain any word."""
    assert unwell(xml(files), HELD, files) == {}
    assert len(list(confinement.judge(xml(files), HELD, files))) == 10


def more(*words: str) -> Callable[[Process], Process]:
    return lambda process: replace(process, command=(*process.command, *words))


def without(word: str, other: str = "") -> Callable[[Process], Process]:
    return lambda process: replace(process, command=tuple(one.replace(word, other) for one in process.command))


@pytest.mark.parametrize(
    ("loosen", "part", "says"),
    [
        (lambda one: replace(one, filtered=False), "qemu-sandbox", "the kernel filters nothing"),
        (without("-sandbox", "-nosandbox"), "qemu-sandbox", "lacks"),
        (without(SANDBOX, "off"), "qemu-sandbox", "spawn=deny"),
        (without(",spawn=deny"), "qemu-sandbox", "lacks spawn=deny"),
        (lambda one: replace(one, capabilities=0x20), "qemu-user", "with capabilities 0x20"),
        (lambda one: replace(one, label=""), "qemu-label", "no AppArmor"),
        (lambda one: replace(one, label="unconfined"), "qemu-label", "no AppArmor"),
        (more("-device", '{"driver":"qemu-xhci"}'), "vm-usb", "qemu-xhci"),
        (more("-device", "usb-tablet,id=x"), "vm-usb", "usb-tablet"),
        (more("-vnc", "127.0.0.1:0"), "vm-graphics", "-vnc"),
        (more("-device", '{"driver":"virtio-vga"}'), "vm-graphics", "virtio-vga"),
        (more("-fsdev", "local"), "vm-folder", "-fsdev"),
        (more("-device", "vhost-user-fs-pci,tag=x"), "vm-folder", "vhost-user-fs-pci"),
        (more("-device", '{"driver":"virtio-balloon-pci"}'), "vm-balloon", "virtio-balloon-pci"),
        (more("-netdev", "user,id=n"), "vm-card", "-netdev"),
        (more("-device", "virtio-net-pci"), "vm-card", "virtio-net-pci"),
        (without('"read-only":true', '"read-only":false'), "vm-disk", "read-only"),
    ],
)
def test_what_qemu_shows_is_found(
    loosen: Callable[[Process], Process], part: str, says: str, files: dict[str, Path]
) -> None:
    found = unwell(xml(files), loosen(HELD), files)
    assert list(found) == [part]
    assert says in found[part]


@pytest.mark.parametrize(
    ("added", "part"),
    [
        ("<controller type='usb' index='0' model='qemu-xhci'/>", "vm-usb"),
        ("<hostdev mode='subsystem' type='pci'/>", "vm-usb"),
        ("<graphics type='vnc'/>", "vm-graphics"),
        ("<video><model type='vga'/></video>", "vm-graphics"),
        ("<filesystem type='mount'/>", "vm-folder"),
        ("<memballoon model='virtio'/>", "vm-balloon"),
        ("<interface type='user'/>", "vm-card"),
        ("<disk type='file' device='disk'><readonly/></disk>", "vm-disk"),
    ],
)
def test_what_libvirt_shows_is_found(added: str, part: str, files: dict[str, Path]) -> None:
    assert list(unwell(xml(files).replace("</devices>", f"{added}</devices>"), HELD, files)) == [part]


def test_a_disk_that_can_be_written_is_found(files: dict[str, Path]) -> None:
    assert list(unwell(xml(files).replace("<readonly/>", ""), HELD, files)) == ["vm-disk"]


def test_root_is_found(files: dict[str, Path]) -> None:
    """It can change every file, and that is said too."""
    found = unwell(xml(files), replace(HELD, uid=0), files)
    assert "QEMU runs as root" in found["qemu-user"]
    assert set(found) == {"qemu-user", "image-files"}


@pytest.mark.parametrize("at", ["rootfs.erofs", "."])
@pytest.mark.parametrize(
    ("mode", "process"),
    [(0o757, HELD), (0o775, replace(HELD, groups=frozenset({0})))],
    ids=["everybody's", "its group's"],
)
def test_an_image_that_qemu_may_write_to_is_found(at: str, mode: int, process: Process, files: dict[str, Path]) -> None:
    """The file, or the folder that it lies in."""
    path = files["rootfs.erofs"].parent / at
    path.chmod(mode)
    if path.stat().st_gid:
        process = replace(process, groups=frozenset({path.stat().st_gid}))
    assert str(path.resolve()) in unwell(xml(files), process, files)["image-files"]


def test_an_image_that_belongs_to_qemu_is_found(files: dict[str, Path]) -> None:
    """So it was while libvirt gave kernel and initramfs to QEMU's user."""
    owner = files["vmlinuz"].stat().st_uid
    found = unwell(xml(files), replace(HELD, uid=owner), files)
    assert "image-files" in found


def test_a_qemu_that_cannot_be_seen_is_not_taken_for_a_confined_one(files: dict[str, Path]) -> None:
    assert list(unwell(xml(files), None, files)) == ["qemu"]
