"""A short runbook: what a simulation must see of it lies near, so that each broken machine is found within seconds."""

from __future__ import annotations

from dataclasses import replace

from engine.domain.agent import AgentRule, Budget
from engine.domain.digest import snapshot_digest
from engine.domain.runbook import ApprovalRule, CloseStep, GateStep, ReceiveStep, Runbook, ScriptStep, Snapshot, Tool
from tests.doubles.toy import toy_runbook

INPUTS = {"mount": "/srv"}
FILES = {name: name.encode() for name in ("diagnose.sh", "fix.sh", "apply.sh", "undo.sh")}


def kept(runbook: Runbook) -> Snapshot:
    """As a run would keep it."""
    return Snapshot(runbook=runbook, source=runbook.name, files=FILES, digest=snapshot_digest(runbook.name, FILES))


def toy() -> Snapshot:
    """All nine micro-steps, with the rehearsal on staging and a rollback of production."""
    return kept(toy_runbook())


def short() -> Snapshot:
    """Receive, look, gate, staging, gate, production with approval, gate, close; nothing to roll back."""
    long = toy_runbook()
    steps = {step.id: step for step in long.steps}

    def change(name: str, approval: ApprovalRule | None) -> ScriptStep:
        step = steps[name]
        assert isinstance(step, ScriptStep)
        return replace(step, rehearse=False, rollback=None, uses=None, approval=approval)

    def gate(name: str) -> GateStep:
        step = steps[name]
        assert isinstance(step, GateStep)
        return replace(step, checks=(*step.checks[:1], *step.checks[2:]))

    return kept(
        replace(
            long,
            steps=(
                ReceiveStep(id="receive"),
                steps["diagnose"],
                gate("confirmed"),
                change("staging", None),
                gate("tests-pass"),
                change("production", ApprovalRule(expires_s=1200)),
                gate("healthy"),
                CloseStep(id="close"),
            ),
        )
    )


def by_an_agent() -> Snapshot:
    """The short one, in which an agent looks."""
    snapshot = short()
    receive, look, *rest = snapshot.runbook.steps
    assert isinstance(look, ScriptStep)
    agent = AgentRule(model="careful", budget=Budget(requests=2, tokens=1000, calls=1))
    steps = (receive, replace(look, tool=Tool.AGENT, agent=agent), *rest)
    return replace(snapshot, runbook=replace(snapshot.runbook, steps=steps))
