"""A runbook as the engine uses it: frozen values, made by `engine.runbooks` from a validated file.

Text fields named `args`, `run`, `url`, `query` may hold `{{ inputs.NAME }}` and `{{ target.host|port|user }}`;
`engine.domain.template` fills them in. Durations are seconds.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.domain.agent import AgentRule
from engine.domain.gate import Check


class Access(enum.StrEnum):
    """What a step may do to its target."""

    NONE = "none"
    READ = "read"
    WRITE = "write"


class Tool(enum.StrEnum):
    """What carries a step out in its VM: a script of the folder, Ansible, Terraform, or an AI agent."""

    SCRIPT = "script"
    ANSIBLE = "ansible"
    TERRAFORM = "terraform"
    AGENT = "agent"


PER_TARGET = frozenset({Tool.TERRAFORM})
""" What these apply is made for one target (a plan): on the next one it is another artefact with the same content. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One host and port that a step may dial by name. The address behind the name comes from the configuration."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """One declared secret. `path` is the full API path, e.g. kv/data/checkout/staging/x."""

    name: str
    engine: str
    path: str
    fields: tuple[str, ...]
    deliver: str = "file"
    max_reads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a step or a probe may use; nothing by default."""

    network: tuple[Endpoint, ...] = ()
    secrets: tuple[SecretRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How a step or probe enters its target by ssh: as whom, and with which of its declared secrets."""

    user: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseLogin:
    """How `sql` checks enter a target's database: its port in the directory, its name, the user, the password."""

    port: int
    name: str
    user: str
    grant: Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A system that steps work on. `verifier` is what gate probes use: other credentials than any step's."""

    name: str
    host: str
    port: int
    protected: bool
    verifier: Login
    verifier_grant: Grant
    database: DatabaseLogin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRule:
    """Where an input comes from in the alert, and the bounds that untrusted text must meet (fullmatch or equality)."""

    name: str
    source: str
    pattern: str | None = None
    enum: tuple[str, ...] = ()

    def takes(self, value: str) -> bool:
        """Whether a value is within the bounds."""
        return value in self.enum if self.enum else bool(self.pattern and re.fullmatch(self.pattern, value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A file of the runbook's folder, run in the VM with these arguments (argv, never a shell line).

    For Ansible: a playbook, in a folder of its own, without arguments.
    For Terraform: the main.tf of a configuration, and what `terraform` is told to do with it.
    For an agent: its prompt, without arguments.
    """

    file: str
    args: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The folder that it lies in, with a slash at its end; empty for the runbook's own."""
        head, slash, _ = self.file.rpartition("/")
        return head + slash


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactRule:
    """What a step produces: every file under /step/out, packed canonically and known by its digest."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRule:
    """The JSON object that a script prints as its last line: required fields, and the values a field may take."""

    required: tuple[str, ...]
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


PLAY_OUTPUT = ("drift", "paths", "would_change", "changed", "changed_again", "ignored", "rescued", "tasks")
""" What a playbook's step says: whether its check mode would change anything, which paths, by which tasks; which tasks
did, and did again in the rerun; whose failures were passed over; how many tasks ran. """


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRule:
    """A person's yes before the step starts. `expires_s`: silence halts the run."""

    expires_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """How a change is undone, and the gate that measures the undoing."""

    script: Script
    checks: tuple[Check, ...]
    shadow: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of the machine a step may take, beside its memory and its time.

    `cpu_percent`: of one processor, 0 for all of its `vcpus`. `disk_mb`: 0 for half of its memory.
    """

    vcpus: int = 1
    cpu_percent: int = 0
    disk_mb: int = 0
    processes: int = 256
    output_kb: int = 1024
    egress_mb: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveStep:
    """Where every run starts: the alert is there, inputs are bound, the channel is open."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptStep:
    """One micro-step that runs in a VM of its own. `env`: environment variable of Terraform -> one of the secrets.

    `agent`: there when `tool` is AGENT.
    """

    id: str
    script: Script
    target: str | None
    access: Access
    grant: Grant
    login: Login | None
    image: str
    memory_mb: int
    timeout_s: int
    idempotent: bool
    limits: Limits = field(default_factory=Limits)
    uses: str | None = None
    produces: ArtefactRule | None = None
    output: OutputRule | None = None
    approval: ApprovalRule | None = None
    rollback: Rollback | None = None
    rehearse: bool = False
    tool: Tool = Tool.SCRIPT
    env: Mapping[str, str] = field(default_factory=dict)
    agent: AgentRule | None = None

    def parts(self, script: Script, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """What of the runbook's files a script of this step consists of: itself, an agent's prompt with its context,
        or the whole folder of a playbook or configuration.

        Raises KeyError when it is not there.
        """
        own = {script.file: files[script.file]}
        if self.tool is Tool.SCRIPT:
            return own
        if self.agent is not None:
            return own | {path: files[path] for path in self.agent.context}
        return own | {path: data for path, data in files.items() if path.startswith(script.folder)}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStep:
    """The check after an attempt. `of` names the step that it certifies; a held verdict is good for `fresh_for_s`.

    `shadow`: checks that are measured and told, and do not count.
    """

    id: str
    of: str
    checks: tuple[Check, ...]
    fresh_for_s: int
    shadow: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseStep:
    """Where every run ends: summary, and the offer of a harness note."""

    id: str


Step = ReceiveStep | ScriptStep | GateStep | CloseStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate:
    """Who is asked when a run halts (a Slack mention of the configuration), and when to remind."""

    to: str
    after_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook:
    """A whole runbook. `alertnames`/`severities` say which alerts start it; empty `severities` means any.

    `pool`: whose workers drive it.
    """

    name: str
    title: str
    owner: str
    alertnames: tuple[str, ...]
    severities: tuple[str, ...]
    deadline_s: int
    inputs: tuple[InputRule, ...]
    targets: Mapping[str, Target]
    escalate: Escalate
    steps: tuple[Step, ...]
    pool: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A runbook as a run keeps it: the YAML text, and every file of its folder by relative path.

    `digest` is `engine.domain.digest.snapshot_digest(source, files)`.
    """

    runbook: Runbook
    source: str
    files: Mapping[str, bytes]
    digest: str
