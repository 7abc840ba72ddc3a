"""ansible-drift: somebody changed `checkout`'s configuration by hand. tests/integration/ansible tells more of it."""

from __future__ import annotations

import json

from demo.world.faults import Fault
from demo.world.target import PRODUCTION, Target, checkout
from tests.library.case import Bad, Case, Edit

PLAY = "ansible-drift/play/site.yml"


def gone(target: Target) -> bool:
    """The configuration is what the playbook's file says."""
    found = target.run("verifier", "cat /srv/checkout/checkout.json").stdout
    return "rotate_mb" in found and json.loads(found)["log_level"] == "info"


CASE = Case(
    runbook="ansible-drift",
    broke="a configuration that was changed by hand",
    service=checkout(Fault.NONE),
    labels={"alertname": "CheckoutConfigurationDrift", "severity": "warning", "env": PRODUCTION},
    gone=gone,
    bad=(
        Bad(
            name="the playbook leaves the file open to all",
            edits=(
                Edit(path=PLAY, old='dest: "{{ config }}", mode: "0664"', new='dest: "{{ config }}", mode: "0666"'),
            ),
            gate="tests-pass",
            check="mode",
        ),
    ),
)
