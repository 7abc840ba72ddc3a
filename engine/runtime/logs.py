"""libvirt's log of each VM: where it lies, its end made fit for a terminal, old ones thrown away.

libvirt keeps one file a VM for ever. Only those are ours that carry our sign in QEMU's command line. It holds what QEMU
and libvirt said; what a step printed is in its attempt, not here.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from engine.domain.errors import BadInput
from engine.runtime.domain_xml import PREFIX

SYSTEM = Path("/var/log/libvirt/qemu")
TAIL_BYTES = 64 << 10
HEAD_BYTES = 32 << 10  # the command line is within this
KEPT_S = 7 * 24 * 3600.0
KEPT = 1000


def folder(uri: str) -> Path | None:
    """Where the libvirt behind this URI writes them; None when that is on another machine."""
    parsed = urlsplit(uri)
    if not parsed.scheme.startswith("qemu") or parsed.netloc:
        return None
    if parsed.path == "/session" and os.geteuid() != 0:  # root's session is the system
        cache = os.environ.get("XDG_CACHE_HOME", "")
        return Path(cache if cache.startswith("/") else Path.home() / ".cache") / "libvirt/qemu/log"
    return SYSTEM


def tail(file: Path, lines: int) -> list[str]:
    """Its last lines, of at most 64 KiB, printable. Raises BadInput: it is not there, or not ours to read."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - TAIL_BYTES))
            text = opened.read(TAIL_BYTES).decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        raise BadInput(f"there is no log {file}") from None
    except PermissionError:
        raise BadInput(f"{file} may not be read by this user", "run it as root: sudo signalbox vm logs ...") from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    return [printable(line) for line in text.removesuffix("\n").split("\n")[-lines:]]


def printable(text: str) -> str:
    """With every character that could steer a terminal written out: \\x1b."""
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode() for char in text
    )


def prune(where: Path, sign: str, running: Collection[str], now: float | None = None) -> int:
    """Remove logs that carry our sign: what is older than a week, and beyond the newest thousand. Returns how many.

    `running`: domains that exist; theirs are kept. What this user may not read or remove stays. Never raises OSError.
    """
    before = (time.time() if now is None else now) - KEPT_S
    removed = 0
    for number, (file, touched) in enumerate(sorted(_logs(where, running), key=lambda found: -found[1])):
        if (touched < before or number >= KEPT) and is_signed(file, sign):
            with contextlib.suppress(OSError):
                file.unlink()
                removed += 1
    return removed


def _logs(where: Path, running: Collection[str]) -> Iterator[tuple[Path, float]]:
    """The logs of domains that are named like ours and are gone, with when each was written last."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(where):
            name = entry.name.partition(".log")[0]
            if not entry.name.startswith(PREFIX) or name == entry.name or name in running:
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield Path(entry.path), status.st_mtime


def is_signed(file: Path, sign: str) -> bool:
    """Whether the command line in this log carries the sign of an owner; False when that cannot be read."""
    try:
        with file.open("rb") as opened:
            return sign.encode() in opened.read(HEAD_BYTES)
    except OSError:
        return False
