"""service-down-agent: as service-down, but one agent diagnoses and another writes the configuration to put back.

Their models replay tapes: what is real is the loop, its tools on the target, and all that holds them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.library import service_down
from tests.library.case import Bad

TAPES = Path(__file__).with_name("tapes") / "service-down-agent"
DIAGNOSE = TAPES / "diagnose.yaml"

CASE = replace(
    service_down.CASE,
    runbook="service-down-agent",
    tapes=(DIAGNOSE, TAPES / "fix.yaml"),
    bad=(
        Bad(
            name="the agent writes another currency, and says that it did not",
            tapes=(DIAGNOSE, TAPES / "another-currency.yaml"),
            gate="tests-pass",
            check="answers",
        ),
    ),
)
