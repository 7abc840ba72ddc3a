"""Orders for the runners' tests, made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.domain.directory import Address, Site
from engine.domain.journey import Leg, LegKind, Role
from engine.domain.ports import Ending, Reach, TaskResult
from engine.domain.runbook import Access, Escalate, Grant, Login, Runbook, Script, ScriptStep, Snapshot, Target
from engine.domain.runners import Order

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKpublic"
SITE = Site(name="shop.staging", ports={2201: Address(host="127.0.0.1", port=40001)}, ssh_host_key=HOST_KEY)
TARGET = Target(
    name="staging",
    host="shop.staging",
    port=2201,
    protected=False,
    verifier=Login(user="verifier", key="verify_key"),
    verifier_grant=Grant(),
)
REACH = Reach(host="shop.staging", port=2201, address="127.0.0.1", address_port=40001)
SCRIPT = Script(file="fix.sh", args=("{{ inputs.mount }}",))
STEP = ScriptStep(
    id="fix",
    script=SCRIPT,
    target="staging",
    access=Access.READ,
    grant=Grant(),
    login=None,
    image="step",
    memory_mb=384,
    timeout_s=60,
    idempotent=True,
)
FILES = {"fix.sh": b"#!/bin/sh\necho fixed\n", "lib/tool.py": b"#!/usr/bin/python3\n", "data.txt": b"plain"}


def order(step: ScriptStep = STEP, role: Role = Role.FORWARD, **more: Any) -> Order:
    """An order for this step."""
    runbook = Runbook(
        name="disk-full",
        title="Disk full",
        owner="ops",
        alertnames=(),
        severities=(),
        deadline_s=3600,
        inputs=(),
        targets={"staging": TARGET},
        escalate=Escalate(to="ops", after_s=60),
        steps=(step,),
    )
    made = Order(
        attempt_id="a1",
        run_id="r1",
        leg=Leg(id=step.id, kind=LegKind.ATTEMPT, step=step, role=role, script=step.script),
        snapshot=Snapshot(runbook=runbook, source="", files=FILES, digest="sha256:0"),
        args=("/srv/data",),
        inputs={"mount": "/srv/data"},
        claims={"diagnose": {"cause": "logs"}},
        target=TARGET,
        site=SITE,
        reaches=(REACH,),
        artefact=None,
    )
    return replace(made, **more)


def result(**more: Any) -> TaskResult:
    """A command that exited with 0 and printed nothing."""
    made = TaskResult(ending=Ending.EXITED, code=0, stdout="", stderr="", truncated=False, reason="", seconds=1.0)
    return replace(made, **more)
