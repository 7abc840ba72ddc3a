"""What differs between two states of a runbook in what it may do and who guards it, not only in its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import get_args

from engine.domain.digest import of_bytes
from engine.domain.gate import Check, Sampling
from engine.domain.runbook import Access, GateStep, Runbook, ScriptStep, Tool
from engine.runbooks import permissions
from engine.runbooks.book import target_of
from engine.runbooks.format import CHANGING, AgentEdge, NoUndoEdge, RunbookEdge, TerraformPlanEdge
from engine.runbooks.permissions import Permission
from engine.runbooks.shelf import shaped

Facts = Mapping[tuple[str, str], str]
""" (part, what it is about) -> how it is. """

PARTS = ("grants", "targets", "gates", "approvals", "ways back", "inputs", "steps", "files", "whole")
GUARDS = frozenset({"gates", "approvals", "ways back"})
""" What is removed here guards no longer; what is added to the grants may be done from now on. """

NOBODY, UNPROTECTED = "nobody is asked", "not protected"


@dataclass(frozen=True, slots=True)
class State:
    """A runbook as it was or is. `called` says which, for people."""

    called: str
    source: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that changed; None where there is none."""

    part: str
    about: str
    before: str | None
    now: str | None
    wider: bool = False

    @property
    def mark(self) -> str:
        """`wider` for a new grant, or one for more than before; `weaker` for a guard that is gone."""
        if self.part == "grants":
            return "wider" if self.wider else ""
        unasked = self.part == "approvals" and (self.now or "").startswith(NOBODY)
        unprotected = self.part == "targets" and self.before is not None and (self.now or "").endswith(UNPROTECTED)
        return "weaker" if unasked or unprotected or (self.part in GUARDS and self.now is None) else ""

    def __str__(self) -> str:
        mark = f"   <- {self.mark}" if self.mark else ""
        if self.before is None:
            return f"+ {self.about}: {self.now}{mark}"
        if self.now is None:
            return f"- {self.about}: {self.before}{mark}"
        return f"~ {self.about}: {self.before}  ->  {self.now}{mark}"


def compare(before: State, now: State) -> tuple[Difference, ...]:
    """What changed, by part. Both need the right shape only; raises BadInput for what has not even that."""
    old, new = (facts(state) for state in (before, now))
    keys = sorted(old.keys() | new.keys(), key=lambda key: (PARTS.index(key[0]), key[1]))
    wider = {("grants", _about(row)) for row in permissions.compare(_granted(before), _granted(now)).wider}
    return tuple(
        Difference(*key, old.get(key), new.get(key), wider=key in wider) for key in keys if old.get(key) != new.get(key)
    )


def _granted(state: State) -> Iterator[Permission]:
    """Its permissions, whatever it is called."""
    return (replace(row, runbook="") for row in permissions.of(shaped(state.source, state.called)[1]))


def _about(row: Permission) -> str:
    return f"{row.who}, {row.kind} {row.what}"


def tell(before: State, now: State) -> str:
    """What differs, by part, for people."""
    found = compare(before, now)
    lines = [f"since {before.called}"]
    for part in PARTS:
        here = [f"  {difference}" for difference in found if difference.part == part]
        lines += [part, *here] if here else []
    if not found:
        same = before.source == now.source
        lines.append("nothing changed" if same else "only words changed: comments, layout, titles")
    return "\n".join(lines)


def facts(state: State) -> Facts:
    """Everything that is worth a reviewer's word."""
    file, runbook, _ = shaped(state.source, state.called)
    found = {
        (
            "whole",
            "starts from",
        ): f"{', '.join(runbook.alertnames)} ({', '.join(runbook.severities) or 'any severity'})",
        ("whole", "deadline"): minutes(runbook.deadline_s),
        ("whole", "asks when it halts"): f"{runbook.escalate.to}, again after {minutes(runbook.escalate.after_s)}",
        ("whole", "pool"): runbook.pool,
        ("steps", "line"): " > ".join(step.id for step in runbook.steps),
    }
    for row in permissions.of(runbook):
        found["grants", _about(row)] = row.limit or str(row.does)
    for name, target in runbook.targets.items():
        found["targets", name] = f"{target.host}:{target.port}, {'protected' if target.protected else UNPROTECTED}"
    for one in runbook.inputs:
        found["inputs", one.name] = f"{one.source} {one.pattern or ' | '.join(one.enum)}"
    for name, data in state.files.items():
        found["files", name] = f"{of_bytes(data)[7:19]}, {len(data.splitlines())} lines"
    return found | dict(_steps(file, runbook))


def _steps(file: RunbookEdge, runbook: Runbook) -> Iterator[tuple[tuple[str, str], str]]:
    for edge, step in zip(file.steps, runbook.steps, strict=True):
        if isinstance(step, GateStep):
            yield ("gates", step.id), f"judges {step.of}, good for {minutes(step.fresh_for_s)}"
            yield from ((("gates", f"{step.id}.{check.id}"), describe(check)) for check in step.checks)
            yield from ((("gates", f"{step.id}.{one.id}"), f"in shadow: {describe(one)}") for one in step.shadow)
        elif isinstance(step, ScriptStep) and isinstance(edge, (AgentEdge, TerraformPlanEdge)):
            yield ("steps", step.id), runs(step)
        elif isinstance(step, ScriptStep) and isinstance(edge, CHANGING):
            yield ("steps", step.id), runs(step)
            if step.approval:
                yield ("approvals", step.id), f"a person's yes, within {minutes(step.approval.expires_s)}"
            elif edge.unapproved:
                yield ("approvals", step.id), f"{NOBODY}: {edge.unapproved}"
            if isinstance(edge.rollback, NoUndoEdge):
                yield ("ways back", step.id), f"none: {edge.rollback.none}"
            elif step.rollback:
                rehearsed = ", rehearsed in every run" if step.rehearse else ""
                script = " ".join((step.rollback.script.file, *step.rollback.script.args))
                yield ("ways back", step.id), f"{script}{rehearsed}"
                yield from ((("gates", f"{step.id}:rollback.{one.id}"), describe(one)) for one in step.rollback.checks)


def runs(step: ScriptStep) -> str:
    """What a step does, in a line."""
    parts = [does(step)]
    parts += [f"with {name} from the secret {secret}" for name, secret in step.env.items()]
    parts += [f"with the artefact of {step.uses}"] if step.uses else []
    parts += [f"makes the artefact {step.produces.name}"] if step.produces else []
    parts += [f"says {', '.join(step.output.required)}"] if step.output else []
    parts += [f"image {step.image}, {step.memory_mb} MB, at most {minutes(step.timeout_s)}"]
    return "; ".join([*parts, "may be run again" if step.idempotent else "never run again by itself"])


def does(step: ScriptStep) -> str:
    """The script with its arguments, the playbook with what is made of it, what Terraform or an agent is told."""
    if step.agent is not None:
        who = f"{step.agent.cli or 'an agent'} of the model {step.agent.model}"
        return f"{who}, told {', '.join((step.script.file, *step.agent.context))}"
    if step.tool is Tool.ANSIBLE:
        how = "only shows what it would change" if step.access is Access.READ else "shown first, run, then run again"
        return f"playbook {step.script.file} ({how})"
    tool = ["terraform"] if step.tool is Tool.TERRAFORM else []
    return " ".join((*tool, step.script.file, *step.script.args))


def describe(check: Check) -> str:
    """A check in a line: its kind, its target, and every field that is not as always."""
    where = target_of(check)
    parts = []
    for field in fields(check):
        value = getattr(check, field.name)
        default = field.default if field.default is not MISSING else None
        if field.name in {"id", "type", "target"} or value in (default, Sampling()):
            continue
        parts.append(f"{field.name} {_shown(value)}")
    return f"{check.type}{f' on {where}' if where else ''}: {'; '.join(parts)}"


def _shown(value: object) -> str:
    match value:
        case Sampling():
            return f"{value.count} times, every {value.every_s:g} s"
        case tuple():
            return " ".join(map(_shown, value))
        case _ if isinstance(value, get_args(Check)):
            return f"[{describe(value)}]"
    return str(value)


def minutes(seconds: int) -> str:
    """As people say it."""
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
