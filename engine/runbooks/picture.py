"""A runbook as a picture and in words: `signalbox runbook graph` and `show`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from engine.domain.gate import OFF_HOST, ExprCheck
from engine.domain.journey import Journey, Leg, LegKind, Role, plan
from engine.domain.runbook import Access, GateStep, Runbook, ScriptStep, Tool
from engine.runbooks import permissions
from engine.runbooks.comparison import describe, minutes, runs
from engine.runbooks.permissions import Kind

WIDTH = 28


def graph(runbook: Runbook) -> str:
    """The legs of a run from top to bottom: what runs, what is measured after it, where a person is asked."""
    journey = plan(runbook)
    lines = [f"{runbook.name}: {runbook.title}", "", *(line for leg in journey.line for line in _leg(leg))]
    if journey.rollbacks:
        lines += ["", "only by a person's decision, once it halted:"]
        lines += [line for rollback in journey.rollbacks for leg in rollback for line in _leg(leg)]
    return "\n".join(
        [*lines, "", "= a gate: only if it holds does the run go on; otherwise it halts and asks a person"]
    )


def _leg(leg: Leg) -> Iterator[str]:
    if leg.kind is LegKind.GATE:
        checks = ", ".join(_check(check) for check in leg.checks)
        yield f"  = {leg.id:<{WIDTH - 2}} {checks}"
        return
    if _asks(leg) and isinstance(leg.step, ScriptStep) and leg.step.approval:
        yield f"  ? a person's yes             to exactly this, within {minutes(leg.step.approval.expires_s)}"
    yield f"  {leg.id:<{WIDTH}} {_does(leg)}".rstrip()


def _asks(leg: Leg) -> bool:
    return leg.kind is LegKind.ATTEMPT and leg.role is Role.FORWARD


def _check(check: object) -> str:
    name = getattr(check, "id", "")
    if isinstance(check, ExprCheck):
        return f"{name} (its own word)"
    return f"{name} ({getattr(check, 'type', '')}{', off the host' if isinstance(check, OFF_HOST) else ''})"


def _does(leg: Leg) -> str:
    step = leg.step
    if leg.kind is not LegKind.ATTEMPT or not isinstance(step, ScriptStep):
        return "rolled back" if leg.kind is LegKind.ROLLED_BACK else ""
    script = leg.script.file if leg.script else ""
    if leg.script and step.tool is Tool.ANSIBLE:
        script = f"playbook {script}" + (", check mode only" if step.access is Access.READ else "")
    if step.agent is not None:
        worked = f"{step.agent.cli} of {step.agent.model}" if step.agent.cli else f"agent {step.agent.model}"
        script = f"{worked} told {script}"
    verb = {Access.WRITE: "changes", Access.READ: "reads", Access.NONE: ""}[step.access]
    who = "with terraform" if step.tool is Tool.TERRAFORM else f"as {step.login.user if step.login else 'nobody'}"
    where = f"{verb} {step.target} {who}: " if verb else ""
    return f"{where}{script}" + (f", makes {step.produces.name}" if step.produces else "")


def mermaid(runbook: Runbook) -> str:
    """As a Mermaid flowchart."""
    names = _names(plan(runbook))
    lines = ["flowchart TD"]
    for leg in _legs(plan(runbook)):
        name = names[leg.id]
        shape = ('{{"', '"}}') if leg.kind is LegKind.GATE else ('["', '"]')
        lines.append(f"  {name}{shape[0]}{_label(leg, '<br/>')}{shape[1]}")
    lines.append('  halt(["halt: a person decides"])')
    for one, other, label in _edges(plan(runbook)):
        arrow = "-.->" if label == "roll back" else "-->"
        lines.append(f"  {names[one.id] if one else 'halt'} {arrow}|{label}| {names[other.id] if other else 'halt'}")
    return "\n".join(lines)


def dot(runbook: Runbook) -> str:
    """As a graph for Graphviz."""
    names = _names(plan(runbook))
    lines = [f'digraph "{runbook.name}" {{', "  node [shape=box, fontname=sans]; edge [fontname=sans];"]
    for leg in _legs(plan(runbook)):
        name = names[leg.id]
        shape = ", shape=diamond" if leg.kind is LegKind.GATE else ""
        label = _label(leg, "\\n").replace('"', '\\"')
        lines.append(f'  {name} [label="{label}"{shape}];')
    lines.append('  halt [label="halt: a person decides", shape=oval];')
    for one, other, label in _edges(plan(runbook)):
        style = ", style=dashed" if label == "roll back" else ""
        ends = f"{names[one.id] if one else 'halt'} -> {names[other.id] if other else 'halt'}"
        lines.append(f'  {ends} [label="{label}"{style}];')
    return "\n".join([*lines, "}"])


def _legs(journey: Journey) -> tuple[Leg, ...]:
    return (*journey.line, *(leg for rollback in journey.rollbacks for leg in rollback))


def _names(journey: Journey) -> dict[str, str]:
    return {leg.id: f"n{number}" for number, leg in enumerate(_legs(journey))}


def _label(leg: Leg, newline: str) -> str:
    more = ", ".join(check.id for check in leg.checks) if leg.checks else _does(leg)
    return f"{leg.id}{newline}{more}" if more else leg.id


def _edges(journey: Journey) -> Iterator[tuple[Leg | None, Leg | None, str]]:
    """From, to, and why; None is the halt."""
    for line in (journey.line, *journey.rollbacks):
        for leg, following in itertools.pairwise(line):
            asked = _asks(following) and isinstance(following.step, ScriptStep) and following.step.approval
            yield leg, following, "a person's yes" if asked else "held" if leg.kind is LegKind.GATE else "then"
            if leg.kind is LegKind.GATE:
                yield leg, None, "not held"
    for rollback in journey.rollbacks:
        yield None, rollback[0], "roll back"


def show(runbook: Runbook, excuses: dict[str, str]) -> str:
    """In words: when it starts, what it may touch, what is measured, who is asked. `excuses`: step -> why not asked."""
    lines = [
        f"{runbook.name}: {runbook.title}. It belongs to {runbook.owner}.",
        f"It starts from {', '.join(runbook.alertnames)} ({', '.join(runbook.severities) or 'any severity'}).",
        f"It has {minutes(runbook.deadline_s)}, and asks {runbook.escalate.to} when it halts.",
        "",
        "What it takes from the alert",
        *(f"  {one.name}: {one.source}, {one.pattern or 'one of ' + ', '.join(one.enum)}" for one in runbook.inputs),
        *(["  nothing"] if not runbook.inputs else []),
        "",
        "Targets",
    ]
    for target in runbook.targets.values():
        word = "protected" if target.protected else "not protected"
        lines.append(f"  {target.name}: {target.host}:{target.port}, {word}; measured as {target.verifier.user}")
    lines += ["", "Steps"]
    for step in runbook.steps:
        lines += _told(runbook, step, excuses)
    return "\n".join(lines)


def _told(runbook: Runbook, step: object, excuses: dict[str, str]) -> Iterator[str]:
    match step:
        case GateStep():
            yield f"  = {step.id} judges {step.of}, and is good for {minutes(step.fresh_for_s)}"
            yield from (f"      {check.id}: {describe(check)}" for check in step.checks)
        case ScriptStep():
            yield f"  {step.id}: {runs(step)}"
            for row in permissions.of(runbook):
                if row.who == step.id:
                    yield f"      {_MAY[row.kind]} {row.shown}" + (
                        f", and {row.does}" if row.kind is Kind.TARGET else ""
                    )
            if step.approval:
                yield f"      waits for a person's yes to exactly this, for {minutes(step.approval.expires_s)}"
            elif step.id in excuses:
                yield f"      nobody is asked: {excuses[step.id]}"
            if step.rollback:
                how = "rehearsed in every run" if step.rehearse else "only by a person's decision"
                yield f"      is undone by {' '.join((step.rollback.script.file, *step.rollback.script.args))}, {how}"
                yield from (f"        = {check.id}: {describe(check)}" for check in step.rollback.checks)


_MAY = {
    Kind.TARGET: "works on",
    Kind.LOGIN: "logs in as",
    Kind.DIAL: "may dial",
    Kind.SECRET: "knows",
    Kind.MODEL: "thinks by the model",
    Kind.SHOWN: "shows its model",
    Kind.RUN: "may run",
    Kind.READ: "may read",
    Kind.WRITE: "may write",
    Kind.METRIC: "may query",
    Kind.LOG: "may read the log",
    Kind.BUDGET: "spends at most",
}
