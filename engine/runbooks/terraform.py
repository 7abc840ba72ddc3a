"""Terraform steps as the engine uses them: what they run, written as `terraform` takes it. Called by `convert`.

A plan:    script CONFIG/main.tf, arguments plan -var=NAME=VALUE ... -backend-config=NAME=VALUE ...
An apply:  script CONFIG/main.tf, arguments apply plan.tfplan; its undoing: apply -var=NAME=VALUE ...
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.domain.runbook import (
    Access,
    ApprovalRule,
    ArtefactRule,
    Grant,
    Limits,
    OutputRule,
    Rollback,
    Script,
    ScriptStep,
    Tool,
)
from engine.runbooks import format as edge

COUNTS = ("add", "change", "destroy", "replace", "drift")
""" The fields of a plan's output: numbers, and the addresses of what changed outside of Terraform. """


def plan(step: edge.TerraformPlanEdge, grant: Grant, limits: Limits) -> ScriptStep:
    """A step that looks and makes a plan."""
    args = ("plan", *_flags("-var", step.variables), *_flags("-backend-config", step.backend))
    return ScriptStep(
        id=step.id,
        script=Script(file=_main_of(step.config), args=args),
        target=step.target,
        access=Access.READ,
        grant=grant,
        login=None,
        image=step.image,
        memory_mb=step.memory_mb,
        limits=limits,
        timeout_s=step.timeout,
        idempotent=True,
        produces=ArtefactRule(name=step.id),
        output=OutputRule(required=COUNTS),
        tool=Tool.TERRAFORM,
        env=step.env,
    )


def apply(
    step: edge.TerraformApplyEdge, file: edge.RunbookEdge, grant: Grant, limits: Limits, rollback: Rollback | None
) -> ScriptStep:
    """A step that applies a plan. Nobody runs it twice but by a person's decision."""
    return ScriptStep(
        id=step.id,
        script=Script(file=_main_of(_config(step, file)), args=("apply", "plan.tfplan")),
        target=step.target,
        access=Access.WRITE,
        grant=grant,
        login=None,
        image=step.image,
        memory_mb=step.memory_mb,
        limits=limits,
        timeout_s=step.timeout,
        idempotent=False,
        uses=step.uses,
        approval=ApprovalRule(expires_s=step.approve.expires) if step.approve else None,
        rollback=rollback,
        rehearse=step.rehearse,
        tool=Tool.TERRAFORM,
        env=step.env,
    )


def undoing(undo: edge.TerraformUndoEdge, step: edge.TerraformApplyEdge, file: edge.RunbookEdge) -> Script:
    """What undoes an apply: the same configuration with the variables of before."""
    return Script(file=_main_of(_config(step, file)), args=("apply", *_flags("-var", undo.variables)))


def _config(step: edge.TerraformApplyEdge, file: edge.RunbookEdge) -> str:
    """The configuration of the plan that it uses; empty when there is no such plan."""
    plans = (one for one in file.steps if isinstance(one, edge.TerraformPlanEdge))
    return next((one.config for one in plans if one.id == step.uses), "")


def _main_of(config: str) -> str:
    return f"{config}/main.tf"


def _flags(flag: str, values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{flag}={name}={value}" for name, value in values.items())
