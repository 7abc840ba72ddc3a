"""A cpio archive in the `newc` format, which the kernel unpacks as an initramfs. `engine.runtime.image` writes these,
`engine.runtime.inspection` reads them.

Several archives after one another are one initramfs; later files win. So the base (busybox, modules) is packed once and
our own few files are put behind it. Format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

MAGIC = b"070701"
HEAD = 6 + 13 * 8
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


def members(data: bytes) -> dict[str, Member]:
    """The regular files of one or several archives after one another. Raises ValueError for anything else."""
    found: dict[str, Member] = {}
    at = 0
    while at < len(data):
        if data[at] == 0:  # between archives
            at += len(data) - at - len(data[at:].lstrip(b"\0"))
            continue
        if data[at : at + 6] != MAGIC:
            raise ValueError(f"no cpio archive at byte {at} (it may be compressed)")
        fields = [int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        begin = _up(at + HEAD + name_size)
        if min(fields) < 0 or begin + size > len(data):
            raise ValueError("a number is negative, or the archive ends too early")
        name = data[at + HEAD : at + HEAD + name_size].rstrip(b"\0").decode(errors="replace")
        if mode & 0o170000 == REGULAR:
            found[name.removeprefix("./")] = Member(data[begin : begin + size], mode & 0o7777)
        at = _up(begin + size)
    return found


def _up(at: int) -> int:
    return -(-at // 4) * 4


def _entry(name: str, mode: int, inode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = MAGIC + b"".join(b"%08X" % field for field in fields) + path
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data.ljust(_up(len(data)), b"\0")
