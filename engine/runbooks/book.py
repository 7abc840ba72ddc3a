"""What a lint rule looks at, and what it says. Called by the rules and by `lint`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.domain.directory import Directory
from engine.domain.gate import INDEPENDENT, Check, QuorumCheck
from engine.domain.journey import Journey, plan
from engine.domain.runbook import Access, GateStep, Runbook, Script, ScriptStep, Target, Tool
from engine.domain.within import asked
from engine.runbooks.check_format import AnyCheck, QuorumEdge
from engine.runbooks.format import CHANGING, GateEdge, NoUndoEdge, RunbookEdge
from engine.runbooks.positions import Place


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule, for a person: where in the file, what, how to mend it."""

    place: Place
    what: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A runbook whose shape is right: as the file says it, as the engine uses it, and the files of its folder.

    `images`: the guest images of this machine; `directory`: where names lead. None where nobody knows them."""

    file: RunbookEdge
    runbook: Runbook
    files: Mapping[str, bytes]
    images: frozenset[str] | None = None
    directory: Directory | None = None

    def journey(self) -> Journey:
        """The legs that are really travelled."""
        return plan(self.runbook)

    def place(self, step_id: str) -> int:
        """Where a step stands in the line."""
        return next(at for at, step in enumerate(self.runbook.steps) if step.id == step_id)

    def words(self, step: ScriptStep) -> str:
        """All that a step may say: its arguments, the texts of its scripts and of the files that these name.

        Of Terraform: every file of the configuration, its secrets' variables, and what the plan was told. Of an agent:
        its prompt, its context and the commands of its tools.
        """
        scripts = [step.script, *([step.rollback.script] if step.rollback else [])]
        plan = self.script(step.uses) if step.uses and step.tool is Tool.TERRAFORM else None
        scripts += [plan.script] if plan else []
        todo = [file for script in scripts for file in self._parts(step, script)]
        read = dict(step.env)
        while todo:
            name = todo.pop()
            if name in read or name not in self.files:
                continue
            read[name] = self.files[name].decode("utf-8", "replace")
            said = frozenset(_WORD.findall(read[name]))
            todo += [other for other in self.files if _stem(other) in said]
        return "\n".join([*(arg for script in scripts for arg in script.args), *commands_of(step), *read.values()])

    def _parts(self, step: ScriptStep, script: Script) -> Iterable[str]:
        if step.agent is not None:
            return (script.file, *step.agent.context)
        return step.parts(script, self.files) if script.file in self.files else ()

    def scripts(self) -> Iterator[tuple[int, ScriptStep]]:
        """Script steps with their place in the line."""
        for at, step in enumerate(self.runbook.steps):
            if isinstance(step, ScriptStep):
                yield at, step

    def changes(self) -> Iterator[tuple[int, ScriptStep]]:
        """Script steps that write."""
        return ((at, step) for at, step in self.scripts() if step.access is Access.WRITE)

    def plays(self) -> Iterator[tuple[Place, ScriptStep, Script]]:
        """Every playbook that runs: the place that names it, its step, the playbook."""
        for at, step in self.scripts():
            if step.tool is not Tool.ANSIBLE:
                continue
            yield ("steps", at, "playbook"), step, step.script
            if step.rollback:
                yield ("steps", at, "rollback", "playbook"), step, step.rollback.script

    def gates(self) -> Iterator[tuple[int, GateStep]]:
        """Gates with their place in the line."""
        for at, step in enumerate(self.runbook.steps):
            if isinstance(step, GateStep):
                yield at, step

    def script(self, step_id: str, before: int | None = None) -> ScriptStep | None:
        """The script step of this id, if it is there (and stands before a place)."""
        for at, step in self.scripts():
            if step.id == step_id and (before is None or at < before):
                return step
        return None

    def target(self, step: ScriptStep) -> Target | None:
        """The target of a step; None when it has none or an unknown one."""
        return self.runbook.targets.get(step.target) if step.target else None

    def protected(self, step: ScriptStep) -> bool:
        """Whether the step works on a protected target. An unknown target counts as protected."""
        target = self.target(step)
        return step.target is not None and (target is None or target.protected)

    def gate_before(self, at: int) -> tuple[int, GateStep] | None:
        """The nearest gate before a place."""
        found = [(place, gate) for place, gate in self.gates() if place < at]
        return found[-1] if found else None

    def check_lists(self) -> Iterator[tuple[Place, int, str, tuple[Check, ...]]]:
        """Every list of checks: its place, the step's index, the id of the step it judges, the checks that count."""
        for at, gate in self.gates():
            yield ("steps", at, "checks"), at, gate.of, gate.checks
        for at, step in self.scripts():
            if step.rollback:
                yield ("steps", at, "rollback", "checks"), at, step.id, step.rollback.checks

    def checks(self) -> Iterator[tuple[Place, int, Check]]:
        """Every check: its place, its step's index, itself. Also those in shadow, members of a quorum, controls."""
        for place, at, edges, counted, shadow in self._lists():
            by_mode = {"block": iter(counted), "shadow": iter(shadow)}
            for number, edge in enumerate(edges):
                yield from _with_inner((*place, number), at, next(by_mode[edge.mode]))

    def names_of_checks(self) -> Iterator[list[tuple[Place, str]]]:
        """Of every gate in the file: what its checks and the members of a quorum are called, and where."""
        return (_names(place, edges) for place, _, edges, _, _ in self._lists())

    def _lists(self) -> Iterator[tuple[Place, int, list[AnyCheck], tuple[Check, ...], tuple[Check, ...]]]:
        for at, (edge, step) in enumerate(zip(self.file.steps, self.runbook.steps, strict=True)):
            if isinstance(edge, GateEdge) and isinstance(step, GateStep):
                yield ("steps", at, "checks"), at, edge.checks, step.checks, step.shadow
            elif isinstance(edge, CHANGING) and isinstance(step, ScriptStep) and step.rollback:
                undo = edge.rollback
                edges = [] if undo is None or isinstance(undo, NoUndoEdge) else undo.checks
                yield ("steps", at, "rollback", "checks"), at, edges, step.rollback.checks, step.rollback.shadow


def _names(place: Place, edges: Sequence[AnyCheck]) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    for number, edge in enumerate(edges):
        found.append(((*place, number, "id"), edge.id))
        if isinstance(edge, QuorumEdge):
            found += _names((*place, number, "checks"), edge.checks)
    return found


def _with_inner(place: Place, at: int, check: Check) -> Iterator[tuple[Place, int, Check]]:
    yield place, at, check
    inner = asked(check)
    if isinstance(check, QuorumCheck):
        for number, member in enumerate(inner):
            yield from _with_inner((*place, "checks", number), at, member)
    else:
        yield from (((*place, "control"), at, control) for control in inner)


_WORD = re.compile(r"[\w-]+")


def _stem(file: str) -> str:
    """What a script says of another file: its name, or that of a module."""
    return file.rpartition("/")[2].partition(".")[0]


def target_of(check: Check) -> str | None:
    """The target that a check measures; None for those that measure nothing."""
    return check.target if isinstance(check, INDEPENDENT) else None


def commands_of(step: ScriptStep) -> Iterator[str]:
    """Every word of a command that an agent's step may run or read a log by."""
    if step.agent is not None:
        tools = step.agent.tools
        for argv in (*(command.argv for command in tools.run), *(log.argv for log in tools.logs)):
            yield from argv
