"""What holds a QEMU that its guest broke out into: looked up at a VM that runs, not in a configuration. For the doctor.

Three witnesses: QEMU's process as the kernel has it, its command line, and libvirt's XML. Each line has its remedy.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.runtime import image
from engine.runtime.inspection import Finding

PROC = Path("/proc")
FILTERED = "2"  # of /proc/PID/status, Seccomp: a filter is in force
WANTED_OF_SANDBOX = frozenset({"on", "elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny"})
UNCONFINED = frozenset({"", "unconfined", "kernel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """QEMU's process. `groups`: with the first. `label`: that of AppArmor or SELinux; empty where there is none."""

    command: tuple[str, ...]
    uid: int
    groups: frozenset[int]
    capabilities: int
    filtered: bool
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of device that a VM of ours has none of: how it would show in XML and in QEMU's devices and options."""

    name: str
    xml: str
    drivers: str
    options: frozenset[str] = frozenset()


ABSENT = (
    Kind(
        name="network card",
        xml="<interface ",
        drivers="virtio-net|e1000|rtl8139|vmxnet",
        options=frozenset({"-netdev", "-net", "-nic"}),
    ),
    Kind(
        name="USB",
        xml="<controller type='usb'(?![^>]*model='none')|<hostdev|<redirdev|bus='usb'",
        drivers="usb|xhci|ehci|uhci|vfio",
        options=frozenset({"-usb", "-usbdevice"}),
    ),
    Kind(
        name="graphics",
        xml="<graphics |<video>",
        drivers="vga|gpu|qxl|cirrus|bochs-display|ramfb",
        options=frozenset({"-vnc", "-spice", "-vga", "-sdl"}),
    ),
    Kind(
        name="shared folder",
        xml="<filesystem |<shmem ",
        drivers="9p|vhost-user-fs|ivshmem",
        options=frozenset({"-fsdev", "-virtfs"}),
    ),
    Kind(name="memory balloon", xml="<memballoon model='(?!none)", drivers="balloon"),
)


def process_of(uuid: str) -> Process | None:
    """QEMU's process of this VM; None where it runs elsewhere, or /proc hides it from us."""
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError, ValueError, KeyError):  # it ended meanwhile, or is not ours to see
            command = tuple((folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1])
            if "-uuid" in command and command[command.index("-uuid") + 1 :][:1] == (uuid,):
                return _read(folder, command)
    return None


def _read(folder: Path, command: tuple[str, ...]) -> Process:
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    try:
        label = (folder / "attr" / "current").read_text().strip("\0\n ")
    except OSError:  # no such security module
        label = ""
    return Process(
        command=command,
        uid=int(status["Uid"].split()[1]),
        groups=frozenset(map(int, (status["Gid"].split()[1], *status["Groups"].split()))),
        capabilities=int(status["CapEff"], 16),
        filtered=status["Seccomp"].strip() == FILTERED,
        label=label,
    )


def judge(xml: str, process: Process | None, files: dict[str, Path]) -> Iterator[Finding]:
    """Each thing that must hold, as one finding. `xml`: libvirt's of the running VM; `files`: what it booted."""
    if process is None:
        yield Finding(
            part="qemu",
            well=False,
            text="QEMU's process cannot be seen from here, so nobody knows how it is confined",
            remedy="run signalbox doctor on the hypervisor itself, as root or as QEMU's user",
        )
        return
    yield _sandbox(process)
    yield _user(process)
    yield _label(process)
    for kind in ABSENT:
        yield _absent(kind, xml, process)
    yield _read_only(xml, process)
    yield _untouchable(process, files)


def _sandbox(process: Process) -> Finding:
    told = _after(process.command, "-sandbox")
    lacks = WANTED_OF_SANDBOX - set(told.split(","))
    if process.filtered and not lacks:
        return Finding(part="qemu-sandbox", well=True, text=f"QEMU's system calls are filtered: {told}")
    why = "the kernel filters nothing" if not process.filtered else f"-sandbox lacks {', '.join(sorted(lacks))}"
    return Finding(
        part="qemu-sandbox",
        well=False,
        text=f"QEMU runs without its seccomp sandbox: {why}",
        remedy="set seccomp_sandbox = 1 in libvirt's qemu.conf (/etc/libvirt, or ~/.config/libvirt in session mode), "
        "restart libvirtd",
    )


def _user(process: Process) -> Finding:
    if process.uid == 0 or process.capabilities:
        who = "root" if process.uid == 0 else f"uid {process.uid} with capabilities {process.capabilities:#x}"
        return Finding(
            part="qemu-user",
            well=False,
            text=f"QEMU runs as {who}: what breaks out of a VM has this machine",
            remedy='set user = "libvirt-qemu" (or another plain user) in /etc/libvirt/qemu.conf, restart libvirtd',
        )
    same = "; so does Signalbox, so give both a user of their own" if process.uid == os.geteuid() else ""
    return Finding(part="qemu-user", well=True, text=f"QEMU runs as uid {process.uid}, without capabilities{same}")


def _label(process: Process) -> Finding:
    if process.label not in UNCONFINED:
        return Finding(part="qemu-label", well=True, text=f"QEMU is confined as {process.label[:80]}")
    return Finding(
        part="qemu-label",
        well=False,
        text="no AppArmor or SELinux profile is around QEMU",
        remedy="boot with AppArmor (apt-get install apparmor) or SELinux, and use qemu:///system: libvirt then gives "
        "each VM a profile",
    )


def _absent(kind: Kind, xml: str, process: Process) -> Finding:
    drivers = [driver for driver in _drivers(process.command) if re.search(kind.drivers, driver, re.IGNORECASE)]
    found = [*re.findall(kind.xml, xml), *drivers, *sorted(kind.options & set(process.command))]
    part = f"vm-{kind.name.split()[-1].lower()}"
    if not found:
        return Finding(part=part, well=True, text=f"the VM has no {kind.name}")
    return Finding(
        part=part,
        well=False,
        text=f"the VM has a {kind.name}: {', '.join(found)[:200]}",
        remedy="something adds devices to our VMs: look for hooks in /etc/libvirt/hooks, and at virsh dumpxml",
    )


def _drivers(command: tuple[str, ...]) -> Iterator[str]:
    """The names of QEMU's devices: -device takes JSON, or NAME,KEY=VALUE."""
    for at, word in enumerate(command[:-1]):
        if word == "-device":
            value = command[at + 1]
            try:
                yield str(json.loads(value)["driver"])
            except (ValueError, KeyError, TypeError):
                yield value.partition(",")[0]


def _read_only(xml: str, process: Process) -> Finding:
    disks = re.findall(r"<disk .*?</disk>", xml, re.DOTALL)
    formats = [word for word in process.command if '"driver":"raw"' in word]
    if len(disks) == 1 and "<readonly/>" in disks[0] and formats and all('"read-only":true' in one for one in formats):
        return Finding(part="vm-disk", well=True, text="the VM's one disk is read-only")
    return Finding(
        part="vm-disk",
        well=False,
        text=f"the VM's disks are not one that is read-only: {len(disks)} disks",
        remedy="look at virsh dumpxml, and for hooks in /etc/libvirt/hooks",
    )


def _untouchable(process: Process, files: dict[str, Path]) -> Finding:
    """Whoever breaks out of one VM must not choose what the next one boots."""
    paths = sorted({path for file in files.values() for path in (file, *file.parents)})
    open_ones = [path for path in paths if image.may_change(path, process.uid, process.groups)]
    if not open_ones:
        return Finding(part="image-files", well=True, text=f"QEMU's user (uid {process.uid}) cannot change the image")
    ours = process.uid == os.geteuid()
    remedy = (
        "build images as another user (root: signalbox image build), in a folder that this one only reads: "
        "SIGNALBOX_IMAGES=/var/lib/signalbox/images"
        if ours
        else f"chown root {open_ones[0]} && chmod go-w {open_ones[0]}"
    )
    text = f"QEMU's user (uid {process.uid}) can change {open_ones[0]}, and so what the next VM boots"
    return Finding(part="image-files", well=False, text=text, remedy=remedy)


def _after(command: tuple[str, ...], option: str) -> str:
    """What follows an option; empty when it is not there."""
    return command[command.index(option) + 1] if option in command[:-1] else ""
