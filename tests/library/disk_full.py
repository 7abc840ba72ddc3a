"""disk-full: production's `checkout` fills its disk with debug lines. The demo tells it too, with a click for each."""

from __future__ import annotations

from demo.world.faults import Fault
from demo.world.target import PRODUCTION, Target, checkout
from tests.library.case import Bad, Case, Edit

FIX = "disk-full/fix.py"


def used(target: Target) -> int:
    """Per cent of the data disk."""
    return int(target.run("verifier", "df --output=pcent /srv | tail -1").stdout.strip(" %\n"))


def gone(target: Target) -> bool:
    """There is room, and no debug lines are written any more."""
    return (
        used(target) < 80 and '"log_level": "info"' in target.run("verifier", "cat /srv/checkout/checkout.json").stdout
    )


CASE = Case(
    runbook="disk-full",
    broke="debug lines fill the data disk",
    service=checkout(Fault.NONE),
    labels={"alertname": "CheckoutDiskFilling", "severity": "critical", "env": PRODUCTION, "mountpoint": "/srv"},
    gone=gone,
    ripe=lambda target: used(target) >= 85,
    bad=(
        Bad(
            name="the fix makes room, and leaves the level of the log",
            edits=(Edit(path=FIX, old='{"log_level": "info", ', new='{"log_level": "debug", '),),
            gate="tests-pass",
            check="config",
        ),
    ),
)
