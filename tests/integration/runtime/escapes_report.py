"""The table of escapes: docs/escapes.md, written by `make test-escapes`."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

WRITTEN_TO = "ESCAPES_REPORT"
HEAD = """# Escapes

What programs tried that ran with root inside a step's VM, and what came of it. Written by `make test-escapes`; the
programs are in `tests/integration/runtime/escapes`. Steps themselves run as a plain user: what that one tried are the
four rows before "fork bomb". Numbers in brackets say how many ways ended so. What reached the proxy or the channel is
on record with the step. From "fork bomb" on each had a VM of its own, and the row says how its step ended, which is
what the run is told; the worker lived, and the next step worked.

{where}

| attempt | tried | what happened | escaped |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One attempt."""

    name: str
    tried: str
    happened: str
    escaped: bool

    def __str__(self) -> str:
        """A line of the table."""
        cells = (self.name, self.tried, self.happened[:300], "**yes**" if self.escaped else "no")
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def write(rows: Sequence[Row]) -> None:
    """The whole table, where the environment says; nothing when it says nothing."""
    path = os.environ.get(WRITTEN_TO)
    if path and rows:
        Path(path).write_text(HEAD.format(where=_where()) + "".join(f"{row}\n" for row in rows))


def _where() -> str:
    def said(*words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {said('git', 'describe', '--always', '--dirty') or 'unknown'}; "
        f"{os.cpu_count()} cores, {memory:.0f} GB, Linux {platform.release()}, "
        f"{said('virsh', '--version') and 'libvirt ' + said('virsh', '--version')}, "
        f"{said('qemu-system-x86_64', '--version').splitlines()[0].removesuffix(')')}), software emulation (TCG)."
    )
