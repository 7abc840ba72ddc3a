"""Small roots, kernels and initramfs for tests of images: right in every respect until a test bends them."""

from __future__ import annotations

from pathlib import Path

from engine.runtime import cpio

RELEASE = "6.1.0-9-test"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nstep:x:1000:1000::/step:/bin/sh\n"
STATUS = """Package: jq
Status: install ok installed
Architecture: amd64
Source: jq-source (1.6-2)
Version: 1.6-2.1

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
"""


def root(base: Path) -> Path:
    """What a step needs, as empty programs."""
    for folder in ("dev", "proc", "sys", "run", "tmp", "step", "etc", "usr/bin", "usr/sbin", "var/lib/dpkg"):
        (base / folder).mkdir(parents=True)
    for name in ("bin", "sbin"):
        (base / name).symlink_to(f"usr/{name}")
    for name in ("sbin/ip", "bin/sh", "bin/ssh", "bin/python3.11"):
        (base / "usr" / name).write_text("#!/bin/true\n")
        (base / "usr" / name).chmod(0o755)
    (base / "usr/bin/python3").symlink_to("python3.11")
    (base / "etc/passwd").write_text(PASSWD)
    (base / "var/lib/dpkg/status").write_text(STATUS)
    return base


def vmlinuz(release: str = RELEASE) -> bytes:
    """The head of a bzImage that says this release."""
    data = bytearray(0x1000)
    data[0x202:0x206] = b"HdrS"
    data[0x20E:0x210] = (0x300).to_bytes(2, "little")
    text = f"{release} (a@b) #1 SMP\0".encode()
    data[0x500 : 0x500 + len(text)] = text
    return bytes(data)


def initrd(release: str = RELEASE) -> bytes:
    """The base of an initramfs with one module."""
    module = f"\x7fELF\0vermagic={release} SMP preempt mod_unload\0".encode()
    return cpio.archive({"bin/busybox": cpio.Member(b"b", 0o755), "m/100-erofs.ko": cpio.Member(module)})
