"""The XML of a step's VM, and the mark by which our VMs are known again. Used by the hypervisor.

No network card, no USB, no graphics, no memory ballooning; one read-only disk shared by all; one virtio-serial port.
Nothing of a step is in here: libvirt keeps this text and logs the command line. https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from engine.runtime.guest.wire import PORT

NAMESPACE = "https://signalbox.example/xmlns/vm/1"
PREFIX = "signalbox-"
TB_CACHE_MB = 128
# no_timer_check: a machine that boots many at once is late with their timers, and the kernel would panic over that
KERNEL_ARGUMENTS = "quiet loglevel=0 panic=-1 no_timer_check console=ttyS0"
WAITING = "waiting-in-the-pool"
SECONDS = re.compile(r"[0-9]{1,11}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose VM it is. The four names are plain (`session.NAME`). `process`: who works with it.

    A VM that waits for its task carries an id of its own as `task`, and WAITING as `run`. `since`: when it began to
    wait or got its task, in seconds since 1970; 0 where nobody said.
    """

    owner: str
    process: str
    task: str
    run: str
    since: int = 0

    @property
    def waits(self) -> bool:
        """Whether this VM has no task yet."""
        return self.run == WAITING


def domain_name(task_id: str) -> str:
    """The domain of a task."""
    return PREFIX + task_id


def sign_of(owner: str) -> str:
    """What QEMU's command line, and so libvirt's log of a VM, says about whose it was."""
    return f"ua-signalbox-{hashlib.sha256(owner.encode()).hexdigest()[:16]}"


def domain(
    mark: Mark,
    uuid: str,
    files: Mapping[str, Path],
    *,
    memory_mb: int,
    vcpus: int = 1,
    kvm: bool,
    qemu_user: tuple[int, int] | None,
) -> str:
    """The domain. `qemu_user`: uid and gid that QEMU runs as where libvirt changes users (system mode)."""
    kind = "kvm" if kvm else "qemu"
    cache = "" if kvm else f"<tcg><tb-cache unit='MiB'>{TB_CACHE_MB}</tb-cache></tcg>"
    return f"""<domain type='{kind}'>
  <name>{escape(domain_name(mark.task))}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    {mark_element(mark, "v:")}
  </metadata>
  <memory unit='MiB'>{memory_mb}</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{escape(str(files["vmlinuz"]))}</kernel>
    <initrd>{escape(str(files["initrd.img"]))}</initrd>
    <cmdline>{KERNEL_ARGUMENTS}</cmdline>
  </os>
  <features><acpi/><apic/><vmport state='off'/>{cache}</features>
  <cpu mode='maximum'/>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file={quoteattr(str(files["rootfs.erofs"]))}/>
      <target dev='vda' bus='virtio'/>
      <readonly/>
      <shareable/>
    </disk>
    <controller type='usb' model='none'/>
    <controller type='virtio-serial' index='0'/>
    <channel type='unix'><target type='virtio' name='{PORT}'/></channel>
    <serial type='null'/>
    <rng model='virtio'>
      <alias name='{sign_of(mark.owner)}'/>
      <backend model='random'>/dev/urandom</backend>
      <rate bytes='65536' period='1000'/>
    </rng>
    <memballoon model='none'/>
  </devices>{_as_user(qemu_user)}
</domain>
"""


def _as_user(qemu_user: tuple[int, int] | None) -> str:
    """Run as this user, and give it nothing: libvirt would make kernel and initramfs, which every VM boots, its own."""
    if qemu_user is None:
        return ""
    uid, gid = qemu_user
    label = f"<label>+{uid}:+{gid}</label>"
    return f"\n  <seclabel type='static' model='dac' relabel='no'>{label}</seclabel>"


def mark_element(mark: Mark, prefix: str = "") -> str:
    """The mark as an XML element; libvirt itself adds prefix and namespace where it sets metadata of a live domain."""
    space = f" xmlns:v='{NAMESPACE}'" if prefix else ""
    pairs = [("owner", mark.owner), ("process", mark.process), ("task", mark.task), ("run", mark.run)]
    if mark.since:
        pairs.append(("since", str(mark.since)))
    return f"<{prefix}vm{space} {' '.join(f'{name}={quoteattr(value)}' for name, value in pairs)}/>"


def read_mark(metadata: str) -> Mark | None:
    """The mark in a domain's metadata element as libvirt gives it; None when it is none of ours."""
    found = dict(re.findall(r"\b(owner|process|task|run|since)=['\"]([A-Za-z0-9._-]+)['\"]", metadata))
    try:
        return Mark(
            owner=found["owner"],
            process=found.get("process", ""),  # a VM of a release that named no process is nobody's now
            task=found["task"],
            run=found["run"],
            since=int(found["since"]) if SECONDS.fullmatch(found.get("since", "")) else 0,
        )
    except KeyError:
        return None
