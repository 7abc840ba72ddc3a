"""What was there before the demo, so that it can be said what it left behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

NAMES = ("qemu-system", "bao", "prometheus", "signalbox", "libvirtd", "virtlogd", "demo.workspace")


@dataclass(frozen=True, slots=True)
class Before:
    """Processes and domains of a moment."""

    processes: frozenset[str]

    @classmethod
    def taken(cls) -> Before:
        """Now."""
        return cls(frozenset(_processes()))

    def left_behind(self) -> list[str]:
        """Processes of the demo's kinds that were not there before. A domain is a QEMU process."""
        return sorted(set(_processes()) - self.processes)


def _processes() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it ended meanwhile
        if any(name in argv.split(" ")[0] or f"-m {name}" in argv for name in NAMES):
            found.append(f"{entry.name}: {argv[:120]}")
    return found
