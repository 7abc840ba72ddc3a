"""Terraform steps outside of any VM: what the runner would send is laid out in a folder, and run with this machine's
terraform against volumes that a service of ours keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.domain.directory import Site
from engine.domain.journey import Leg, LegKind, Role
from engine.domain.ports import SecretValue
from engine.domain.runbook import (
    Access,
    ArtefactRule,
    Escalate,
    Grant,
    Login,
    OutputRule,
    Rollback,
    Runbook,
    Script,
    ScriptStep,
    Snapshot,
    Target,
    Tool,
)
from engine.domain.runners import Conclusion, Order
from engine.runtime.output import NoSecrets
from engine.runtime.runners.terraform import TerraformRunner
from tests.integration.terraform.on_this_host import OnThisHost
from tests.services import terraform
from tests.services.volumes.service import Volumes

CONFIG = Path(__file__).parents[3] / "runbooks" / "terraform-change" / "volume"
RUNNER = TerraformRunner()
READER, OPERATOR = "reader-word-7c1e", "operator-word-93ab"


def target(name: str) -> Target:
    """A target of this name."""
    return Target(
        name=name,
        host=f"{name}.volumes.example",
        port=8080,
        protected=name == "production",
        verifier=Login(user="verifier", key="ssh"),
        verifier_grant=Grant(),
    )


def plan_step(name: str, url: str, **variables: object) -> ScriptStep:
    """A plan for this target, whose API is at `url`."""
    args = [f"-var={key}={value}" for key, value in {"endpoint": url, **variables}.items()]
    backend = dict.fromkeys(("address", "lock_address", "unlock_address"), f"{url}/state") | {"username": "signalbox"}
    return _step(
        f"plan-{name}",
        Script(
            file="volume/main.tf",
            args=("plan", *args, *(f"-backend-config={key}={value}" for key, value in backend.items())),
        ),
        target=name,
        access=Access.READ,
        produces=ArtefactRule(name=f"plan-{name}"),
        output=OutputRule(required=("add", "change", "destroy", "replace", "drift")),
    )


def apply_step(name: str, *, rehearse: bool = False, before: Mapping[str, object] | None = None) -> ScriptStep:
    """An apply of the plan for this target."""
    undo = ("apply", *(f"-var={key}={value}" for key, value in (before or {}).items()))
    return _step(
        name,
        Script(file="volume/main.tf", args=("apply", "plan.tfplan")),
        target=name,
        access=Access.WRITE,
        uses=f"plan-{name}",
        rollback=Rollback(script=Script(file="volume/main.tf", args=undo), checks=()),
        rehearse=rehearse,
    )


def _step(step_id: str, script: Script, **more: Any) -> ScriptStep:
    return ScriptStep(
        id=step_id,
        script=script,
        grant=Grant(),
        login=None,
        image=terraform.NAME,
        memory_mb=512,
        timeout_s=300,
        idempotent=False,
        tool=Tool.TERRAFORM,
        env={"TF_HTTP_PASSWORD": "word", "VOLUMES_TOKEN": "word"},
        **more,
    )


def order(step: ScriptStep, files: Mapping[str, bytes], role: Role = Role.FORWARD, **more: Any) -> Order:
    """The order of a step; `files`: the runbook's folder."""
    script = step.rollback.script if role is Role.ROLLBACK and step.rollback else step.script
    mine = target(step.target or "")
    runbook = Runbook(
        name="terraform-change",
        title="A volume is changed",
        owner="ops",
        alertnames=(),
        severities=(),
        deadline_s=3600,
        inputs=(),
        targets={mine.name: mine},
        escalate=Escalate(to="ops", after_s=60),
        steps=(step,),
    )
    made = Order(
        attempt_id="a1",
        run_id="r1",
        leg=Leg(id=step.id, kind=LegKind.ATTEMPT, step=step, role=role, script=script),
        snapshot=Snapshot(runbook=runbook, source="", files=files, digest="sha256:0"),
        args=script.args,
        inputs={"size_gb": "60", "allow_replace": "no"},
        claims={},
        target=mine,
        site=Site(name=mine.host),
        reaches=(),
        artefact=None,
    )
    return replace(made, **more)


@dataclass
class Bench:
    """One configuration, one environment."""

    host: OnThisHost
    volumes: Volumes
    name: str = "staging"
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.volumes.port}"

    def plan(self, **variables: object) -> Conclusion:
        """Plan with the reader's word."""
        return self.run(order(plan_step(self.name, self.url, **variables), self.files), READER)

    def apply(self, artefact: bytes | None, role: Role = Role.FORWARD, **more: Any) -> Conclusion:
        """Apply, rehearse or undo with the operator's word."""
        return self.run(order(apply_step(self.name, **more), self.files, role, artefact=artefact), OPERATOR)

    def run(self, made: Order, word: str) -> Conclusion:
        """Do what the VM would do."""
        task = RUNNER.task(made, (SecretValue(name="word", value=word),))
        return RUNNER.conclude(made, self.host.run(task, NoSecrets(), lambda _text: None))
