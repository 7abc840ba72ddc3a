"""The runbook `ansible-drift`: it loads without a finding, and its steps, files and gates agree with one another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from engine.domain import journey
from engine.domain.gate import CommandCheck, HttpCheck
from engine.domain.runbook import Access, GateStep, ScriptStep, Tool
from engine.proving import prove
from engine.runbooks import Shelf

RUNBOOKS = Path(__file__).parents[3] / "runbooks"
SNAPSHOT = Shelf(RUNBOOKS).read("ansible-drift")
CONFIG = SNAPSHOT.files["play/files/checkout.json"]


def test_it_loads_and_staging_is_rehearsed() -> None:
    line = [leg.id for leg in journey.plan(SNAPSHOT.runbook).line]

    assert " ".join(line) == (
        "receive diagnose drift-confirmed fix staging:rehearse staging:rollback staging:rollback-gate staging "
        "tests-pass production production-healthy close"
    )


def test_every_playbook_is_run_by_ansible_in_its_image_and_the_diagnosis_only_reads() -> None:
    steps = {step.id: step for step in SNAPSHOT.runbook.steps if isinstance(step, ScriptStep)}

    assert {name for name, step in steps.items() if step.tool is Tool.ANSIBLE} == {"diagnose", "staging", "production"}
    assert {step.image for step in steps.values() if step.tool is Tool.ANSIBLE} == {"step-ansible"}
    assert (steps["diagnose"].access, steps["diagnose"].login and steps["diagnose"].login.user) == (
        Access.READ,
        "reader",
    )
    assert steps["staging"].parts(steps["staging"].script, SNAPSHOT.files).keys() == {
        "play/site.yml",
        "play/undo.yml",
        "play/files/checkout.json",
    }


def test_the_gates_measure_what_the_playbook_installs() -> None:
    """The same settings and the digest of the same bytes: who edits the one is told of the other."""
    checks = [check for step in SNAPSHOT.runbook.steps if isinstance(step, GateStep) for check in step.checks]
    wanted = [check.expect for check in checks if isinstance(check, CommandCheck) and check.id == "config"]
    loaded = [check.expect for check in checks if isinstance(check, HttpCheck) and check.id == "loaded"]

    assert {json.dumps(json.loads(text.removeprefix("out == "))) for text in wanted} == {json.dumps(json.loads(CONFIG))}
    assert set(loaded) == {f'json.config_digest == "sha256:{hashlib.sha256(CONFIG).hexdigest()}"'}


def test_its_gates_can_fail() -> None:
    proof = prove(SNAPSHOT)

    assert proof.problems == ()
    assert [survivor for survivor in proof.survivors if not survivor.because] == []
