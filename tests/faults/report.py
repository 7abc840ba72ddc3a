"""The table of faults: docs/faults.md, written by `make test-faults`."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.findings import Findings
from tests.faults.scene import DEAD_AFTER_S, HUNG_AFTER_S
from tests.services.postgres import Postgres

WRITTEN_TO = "FAULTS_REPORT"
HEAD = """# Faults

What was done to real processes on a real Postgres (fsync on), and what it cost. Written by `make test-faults`.

- **lost**: an alert or a click that was acknowledged and is not there.
- **doubled**: a target that was changed more than once without a person's decision between, two VMs of one run at once,
  or two incidents for one alert. Each "VM" is a process that outlives its worker and counts in a file of the target.
- **hung**: a run that neither ended nor asked a person within {hung:.0f} s (three times the {dead:.0f} s after which a
  silent worker counts as dead here; the default is 15 s), counted from the fault, or from when the database, the
  disk or the only worker was back.
- **recovery**: from the fault to the next event of the run that it hit; p50 and longest. On another host the takeover
  of a step that may run again waits until its VM has ended itself. The moments are random: where the fault met a run
  that waited for a person, the time is the person's.

{where}

| fault | tries | lost | doubled | hung | recovery p50 | longest |
|---|---:|---:|---:|---:|---:|---:|
"""


@dataclass(frozen=True)
class Row:
    """One fault, done many times."""

    fault: str
    findings: Sequence[Findings]

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled or hung."""
        return not any(found.lost or found.doubled or found.hung for found in self.findings)

    def __str__(self) -> str:
        """A line of the table."""
        times = [found.recovery_s for found in self.findings if found.recovery_s is not None]
        took = (f"{statistics.median(times):.1f} s", f"{max(times):.1f} s") if times else ("-", "-")
        counts = [sum(len(getattr(found, what)) for found in self.findings) for what in ("lost", "doubled", "hung")]
        return f"| {self.fault} | {len(self.findings)} | " + " | ".join(map(str, (*counts, *took))) + " |"


def write(path: Path, rows: Sequence[Row], postgres: Postgres) -> None:
    """The whole table."""
    head = HEAD.format(hung=HUNG_AFTER_S, dead=DEAD_AFTER_S, where=_where(postgres))
    path.write_text(head + "".join(f"{row}\n" for row in rows))


def _where(postgres: Postgres) -> str:
    version = str(postgres.admin("SHOW server_version")[0][0]).split()[0]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}; {os.cpu_count()} cores, "
        f"{memory:.0f} GB, Linux {platform.release()}, Python {platform.python_version()}, PostgreSQL {version}."
    )
