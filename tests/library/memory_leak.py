"""memory-leak: `reports` holds what it leaked in days; on staging too, for there it runs as long."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from demo.world import monitoring
from demo.world.service import Service
from demo.world.target import Target
from engine.domain.errors import Unavailable
from tests.library.case import Bad, Case, Edit

SMALL_KB = 40_000
STARTED = "for pid in $(pgrep -x python3); do cut -d' ' -f1,22 /proc/$pid/stat; done"
""" Each process with the moment of its start. """
RUN = b"""#!/bin/sh
# Runs `reports`: at first as it is after days, then as it is when it was started.
[ -e /tmp/started ] || { : >/tmp/started; exec /usr/bin/python3 -IS /run/world/reports.py --aged; }
exec /usr/bin/python3 -IS /run/world/reports.py
"""


def data(_env: str) -> Mapping[str, bytes]:
    """Four lines of a log, in which it grows."""
    grown = "".join(f"2026-01-0{day}T00:00:00Z rss_kb={day * 20_000}\n" for day in range(1, 5))
    return {"reports/log/app.log": grown.encode(), "reports/data/queries.csv": b"id,query\n1,sales\n"}


def gone(target: Target) -> bool:
    """One process, small, that answers."""
    try:
        monitoring.get(f"{target.http_url}/healthz")
    except Unavailable:
        return False
    sizes = target.run("verifier", "cat /proc/[0-9]*/status | grep -A25 '^Name:.python3' | grep VmRSS").stdout.split(
        "\n"
    )
    return [int(line.split()[1]) < SMALL_KB for line in sizes if line] == [True]


def _restart(old: str, new: str) -> tuple[Edit, ...]:
    return (Edit(path="memory-leak/fix.py", old=old, new=new),)


CASE = Case(
    runbook="memory-leak",
    broke="a process that holds 64 MB more than it needs, and grew for days",
    service=Service(
        name="reports",
        settings=lambda _env: {},
        data=data,
        files={
            "service.sh": RUN,
            "reports.py": Path(__file__).with_name("services").joinpath("reports.py").read_bytes(),
        },
        watched=False,
    ),
    labels={"alertname": "ReportsMemoryHigh", "severity": "warning", "env": "production"},
    gone=gone,
    still=STARTED,
    bad=(
        Bad(
            name="the old process runs on",
            edits=_restart("touch drain\n", "echo drained\n"),
            gate="tests-pass",
            check="memory",
        ),
        Bad(
            name="the new process leaks at once again",
            edits=_restart("touch drain\n", "touch cache.unbounded drain\n"),
            gate="tests-pass",
            check="memory",
        ),
    ),
)
