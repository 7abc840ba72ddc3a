"""disk-full-agent: as disk-full, but agents diagnose and write the fix; their models say what the demo's tapes say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from demo.stage import TAPES
from tests.library import disk_full
from tests.library.case import Bad

DIAGNOSE, FIX = TAPES / "mends" / "diagnose.yaml", TAPES / "mends" / "fix.yaml"
LEAVES_DEBUG = Path(__file__).with_name("tapes") / "disk-full-agent" / "leaves-debug.yaml"

CASE = replace(
    disk_full.CASE,
    runbook="disk-full-agent",
    tapes=(DIAGNOSE, FIX),
    bad=(
        Bad(
            name="the agent's script makes room, and leaves the level of the log",
            tapes=(DIAGNOSE, LEAVES_DEBUG),
            gate="tests-pass",
            check="config",
        ),
    ),
)
