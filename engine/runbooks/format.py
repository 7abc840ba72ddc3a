"""The file format `runbook/v1`: what may stand in a runbook's YAML. Read by the shelf, converted by `convert`.

Strict: no key that is not here, no value of another type. What the shape alone cannot say is a rule in `rules`.
The descriptions appear in the JSON Schema (completion in editors) and in messages about missing keys.
Checks have their format in `check_format`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from engine.domain import image_names
from engine.domain.runbook import Limits
from engine.runbooks.agent_format import ModelEdge
from engine.runbooks.check_format import Checks
from engine.runbooks.scalars import (
    Duration,
    Edge,
    File,
    InputName,
    Name,
    Port,
    Reason,
    Sentence,
    User,
    Word,
    tagged,
)
from engine.runbooks.target_format import SecretEdge, TargetEdge

USUAL = Limits()
SecretName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", description="the name of one of its secrets")]
EnvName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$", description="an environment variable, in capitals")]
VariableName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,63}$", description="lower case letters, digits, _")]
Variables = dict[VariableName, Word]

# -- steps ------------------------------------------------------------------------------------------------------------


class EndpointEdge(Edge):
    """One host (a name of the directory) and port that a step may dial."""

    host: str = Field(min_length=1, max_length=200, description="a name of the directory, or {{ target.host }}")
    port: Port = Field(description="the port")


class LoginEdge(Edge):
    """How a step enters its target: `ssh target` as this user, with this one of its secrets."""

    user: User = Field(description="the user on the target")
    key: str = Field(description="the name of one of the step's secrets")


class ProducesEdge(Edge):
    """What a step makes: every file under /step/out."""

    name: Name = Field(description="the artefact's name")


class OutputEdge(Edge):
    """The JSON object that the script prints as its last line."""

    required: list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]] = Field(min_length=1, max_length=40)
    enums: dict[str, Annotated[list[Sentence], Field(min_length=1)]] = Field(default_factory=dict)


class LimitsEdge(Edge):
    """How much of the machine a step may take. A step that meets one of them does not finish."""

    vcpus: int = Field(USUAL.vcpus, ge=1, le=4, description="processors of its VM")
    cpu_percent: int | None = Field(
        None, ge=5, le=400, description="of one processor, for the whole VM, where libvirt can hold it to that"
    )
    disk_mb: int | None = Field(
        None, ge=8, le=8192, description="all that it writes; it lies in its memory, of which it takes half at most"
    )
    processes: int = Field(USUAL.processes, ge=4, le=4096, description="processes and threads at once")
    output_kb: int = Field(
        USUAL.output_kb, ge=1, le=16384, description="of stdout and stderr each; the rest is dropped"
    )
    egress_mb: int = Field(USUAL.egress_mb, ge=1, le=102400, description="bytes of all connections, both ways")


class ApproveEdge(Edge):
    """A person's yes before the step starts."""

    expires: Duration = Field(description="how long the question stands; silence halts the run")


class UndoEdge(Edge):
    """How the change is undone, and the checks that measure the undoing."""

    script: File = Field(description="the script that undoes the change")
    args: list[Word] = Field(default_factory=list, max_length=40)
    checks: Checks = Field(description="the checks after the undoing")


class UndoPlayEdge(Edge):
    """The playbook that undoes the change, and the checks that measure the undoing."""

    playbook: File = Field(description="the playbook that undoes the change, in the same folder")
    checks: Checks = Field(description="the checks after the undoing")


class NoUndoEdge(Edge):
    """The change cannot or need not be undone."""

    none: Reason = Field(description="why there is no way back")


def _rollback_tag(raw: Any) -> str:
    return "rollback:none" if isinstance(raw, dict) and "none" in raw else "rollback:undo"


AnyRollback = Annotated[
    Annotated[UndoEdge, Tag("rollback:undo")] | Annotated[NoUndoEdge, Tag("rollback:none")],
    Discriminator(_rollback_tag),
]
AnyPlayRollback = Annotated[
    Annotated[UndoPlayEdge, Tag("rollback:undo")] | Annotated[NoUndoEdge, Tag("rollback:none")],
    Discriminator(_rollback_tag),
]


class StepEdge(Edge):
    """What every step has."""

    id: Name = Field(description="the step's name")


class ReceiveEdge(StepEdge):
    """The beginning of every run."""

    kind: Literal["receive"]


class CloseEdge(StepEdge):
    """The end of every run."""

    kind: Literal["close"]


class VmEdge(StepEdge):
    """What every step has that works in a VM of its own, and logs in from there by ssh."""

    target: Name | None = Field(None, description="the target that the step works on")
    login: LoginEdge | None = None
    network: list[EndpointEdge] = Field(default_factory=list, max_length=16)
    secrets: list[SecretEdge] = Field(default_factory=list, max_length=8)
    uses: Name | None = Field(None, description="the step whose artefact it works with")
    image: Name = Field(
        image_names.BASE,
        description="the guest image that it boots: built (`signalbox image build`) or imported",
        examples=list(image_names.built_here()),
    )
    memory_mb: int = Field(384, ge=128, le=8192)
    limits: LimitsEdge | None = Field(None, description="what it may take beside memory and time")
    timeout: Duration = Field(description="how long it may take; then its VM is destroyed")


class WorkEdge(VmEdge):
    """What every step has that may change its target."""

    access: Literal["none", "read", "write"] = Field(description="what the step may do to its target")
    idempotent: bool = Field(description="whether it may be run again when nobody knows how far it came")
    approve: ApproveEdge | None = None
    unapproved: Reason | None = None
    rehearse: bool = Field(False, description="do, undo, measure, do again: so that the way back was seen working")


class ScriptEdge(WorkEdge):
    """One micro-step, in a VM of its own."""

    kind: Literal["script"]
    script: File = Field(description="the script that runs")
    args: list[Word] = Field(default_factory=list, max_length=40)
    produces: ProducesEdge | None = None
    output: OutputEdge | None = None
    rollback: AnyRollback | None = None


class AnsibleEdge(WorkEdge):
    """A playbook: what it would change is shown, then it runs, then it runs again and must change nothing. With
    `access: read` only the first. It says `drift`, `paths`, `would_change`, `changed`, `ignored`, `rescued`, `tasks`.
    """

    kind: Literal["ansible"]
    playbook: File = Field(description="the playbook, in a folder of its own within the runbook's folder")
    access: Literal["read", "write"] = Field(description="read: only what it would change; write: also change it")
    image: Name = Field(image_names.ANSIBLE, description="a guest image that has Ansible")
    memory_mb: int = Field(512, ge=256, le=8192)
    rollback: AnyPlayRollback | None = None


class AgentEdge(VmEdge, ModelEdge):
    """An AI agent looks into something, or writes an artefact for a later step to apply. It changes no target."""

    kind: Literal["agent"]
    prompt: File = Field(description="a file of the runbook's folder: what the agent is told to do")
    context: list[File] = Field(
        default_factory=list, max_length=8, description="files of the runbook's folder that it is told as well"
    )
    access: Literal["none", "read"] = Field(description="what its tools may do to its target; an agent never writes")
    produces: ProducesEdge | None = None
    output: OutputEdge | None = None


class TerraformEdge(StepEdge):
    """What both steps of Terraform have."""

    target: Name = Field(description="the target, whose provider and state it works with")
    image: Name = Field(
        description="a guest image with terraform and its providers, imported (`signalbox image import`)",
        examples=["terraform"],
    )
    env: dict[EnvName, SecretName] = Field(
        default_factory=dict, max_length=16, description="environment variables that are secrets of the step, by name"
    )
    network: list[EndpointEdge] = Field(default_factory=list, max_length=16)
    secrets: list[SecretEdge] = Field(default_factory=list, max_length=8)
    memory_mb: int = Field(512, ge=256, le=8192)
    limits: LimitsEdge | None = Field(None, description="what it may take beside memory and time")
    timeout: Duration = Field(description="how long it may take; then its VM is destroyed")


class TerraformPlanEdge(TerraformEdge):
    """A plan. Its artefact holds `plan.json` for policies; its output counts add, change, destroy, replace, drift."""

    kind: Literal["terraform-plan"]
    config: File = Field(description="a folder of the runbook's folder, with main.tf and terraform.lock.hcl")
    variables: Variables = Field(default_factory=dict, max_length=40, description="the configuration's variables")
    backend: Variables = Field(default_factory=dict, max_length=20, description="what its backend block leaves open")


class TerraformUndoEdge(Edge):
    """The configuration is applied with the variables of before, and nothing else may be touched by that."""

    variables: Variables = Field(max_length=40, description="the variables that are other than in the plan")
    checks: Checks = Field(description="the checks after the undoing")


AnyTerraformRollback = Annotated[
    Annotated[TerraformUndoEdge, Tag("rollback:undo")] | Annotated[NoUndoEdge, Tag("rollback:none")],
    Discriminator(_rollback_tag),
]


class TerraformApplyEdge(TerraformEdge):
    """A plan is applied: exactly the plan file that was reviewed. A new plan must find nothing to do then."""

    kind: Literal["terraform-apply"]
    uses: Name = Field(description="the plan step whose plan it applies")
    approve: ApproveEdge | None = None
    unapproved: Reason | None = None
    rollback: AnyTerraformRollback | None = None
    rehearse: bool = Field(False, description="apply, undo, measure, plan anew and apply if it is the same change")


CHANGING = ScriptEdge | AnsibleEdge | TerraformApplyEdge
""" Steps that may change a target: they are approved or say why not, and have a way back or say why not. """


class GateEdge(StepEdge):
    """The checks after a step. Only if all hold does the run go on."""

    kind: Literal["gate"]
    of: Name = Field(description="the step that it judges")
    fresh_for: Duration = Field("10m", validate_default=True, description="how long a held verdict is good for")
    checks: Checks = Field(description="what is measured")


AnyStep = Annotated[
    Annotated[ReceiveEdge, Tag("kind:receive")]
    | Annotated[ScriptEdge, Tag("kind:script")]
    | Annotated[AnsibleEdge, Tag("kind:ansible")]
    | Annotated[AgentEdge, Tag("kind:agent")]
    | Annotated[TerraformPlanEdge, Tag("kind:terraform-plan")]
    | Annotated[TerraformApplyEdge, Tag("kind:terraform-apply")]
    | Annotated[GateEdge, Tag("kind:gate")]
    | Annotated[CloseEdge, Tag("kind:close")],
    tagged("kind", "kind"),
]

# -- the whole --------------------------------------------------------------------------------------------------------


class TriggerEdge(Edge):
    """Which alerts start this runbook."""

    alertname: list[Sentence] = Field(min_length=1, max_length=50, description="the names of the alerts")
    severity: list[Literal["critical", "high", "warning", "info", "unknown"]] = Field(default_factory=list)


class InputEdge(Edge):
    """A value from the alert. Untrusted: bounded by `enum` or by an anchored `pattern`."""

    from_: str = Field(
        alias="from",
        pattern=r"^alert\.(labels|annotations)\.[A-Za-z_][A-Za-z0-9_]*$",
        max_length=200,
        description="where it stands in the alert, such as alert.labels.instance",
    )
    pattern: str | None = Field(None, max_length=200)
    enum: list[Annotated[str, Field(max_length=200)]] | None = Field(None, min_length=1, max_length=100)


class EscalateEdge(Edge):
    """Who is asked when a run halts."""

    to: Annotated[str, Field(pattern=r"^@[a-z0-9][a-z0-9._-]{0,79}$")] = Field(description="a group, such as @oncall")
    after: Duration = Field(description="when to remind")


class RunbookEdge(Edge):
    """A runbook: a straight line of micro-steps with a gate after each change."""

    model_config = ConfigDict(title="Signalbox runbook")

    schema_: Literal["runbook/v1"] = Field(alias="schema", description="always runbook/v1")
    name: Name = Field(description="the name of the file without .yaml")
    title: Sentence = Field(description="what is wrong, for people")
    owner: Sentence = Field(description="the team that answers for it")
    trigger: TriggerEdge = Field(description="which alerts start it")
    deadline: Duration = Field(description="how long the whole run may take")
    pool: Name = Field("default", description="whose workers drive it, where there are several pools")
    inputs: dict[InputName, InputEdge] = Field(default_factory=dict, max_length=20)
    targets: dict[Name, TargetEdge] = Field(min_length=1, max_length=20, description="the systems that it works on")
    escalate: EscalateEdge = Field(description="who is asked when it halts")
    steps: list[AnyStep] = Field(min_length=2, max_length=60, description="the steps in their order")


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RunbookEdge.model_json_schema(by_alias=True),
    }
