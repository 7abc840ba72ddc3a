"""A cpio archive in the `newc` format, which the kernel unpacks as an initramfs. `engine.runtime.image` writes these.

Several archives after one another are one initramfs; later files win. So the base (busybox, modules) is packed once and
our own few files are put behind it. Format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

REGULAR = 0o100000
FOLDER = 0o040755


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file of root's."""

    content: bytes
    mode: int = 0o644


def archive(members: Mapping[str, Member]) -> bytes:
    """Equal members give equal bytes: sorted, no times, numbered from one. Folders come before what lies in them."""
    folders = {str(parent) for name in members for parent in PurePosixPath(name).parents} - {"."}
    entries = dict.fromkeys(folders, (FOLDER, b""))
    entries |= {name: (REGULAR | member.mode, member.content) for name, member in members.items()}
    out = bytearray()
    for number, (name, (mode, content)) in enumerate(sorted(entries.items()), start=1):
        out += _entry(name, mode, number, content)
    out += _entry("TRAILER!!!", 0, 0, b"")
    return bytes(out.ljust(-(-len(out) // 512) * 512, b"\0"))


def _entry(name: str, mode: int, inode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 4) * 4, b"\0")
