"""What a runbook's steps and verifiers may touch, one row a permission: the report for the security team."""

from __future__ import annotations

import enum
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from engine.domain import template
from engine.domain.agent import AgentRule, Tools, Where
from engine.domain.runbook import Access, Grant, Login, Runbook, ScriptStep, Target


class Kind(enum.StrEnum):
    """What is permitted."""

    TARGET = "target"
    LOGIN = "login"
    DIAL = "dial"
    DATABASE = "database"
    SECRET = "secret"  # noqa: S105 - a word, no secret
    MODEL = "model"
    SHOWN = "shown to it"
    RUN = "run"
    READ = "read"
    WRITE = "write"
    METRIC = "metric"
    LOG = "log"
    BUDGET = "budget"


class Does(enum.StrEnum):
    """What it is for, from the least to the most."""

    NOTHING = "touches none"
    MEASURES = "measures"
    READS = "reads"
    CHANGES_AFTER_A_YES = "changes after a yes"
    CHANGES = "changes"


PROBE = "probe"
_RANK = {does: rank for rank, does in enumerate(Does)}


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One permission. `who`: a step, or `verifier of TARGET`; `what`: a target's host, USER@HOST, HOST:PORT, or a
    secret's path with its fields; of an agent also its model, what the model is shown, a tool's rule, a part of its
    budget. `by`: what does it, a tool or a gate's probe. `limit`: how far it goes; `most`: the same as a number, of
    which more is wider."""

    runbook: str
    who: str
    target: str
    does: Does
    kind: Kind
    what: str
    by: str
    limit: str = ""
    most: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two of them the same permission, whatever it is for."""
        return self.runbook, self.who, self.kind, self.what

    @property
    def reach(self) -> tuple[int, int]:
        """How far it goes; of two rows with one key the greater is the wider."""
        return _RANK[self.does], self.most

    @property
    def shown(self) -> str:
        """What, and how far, for people."""
        return f"{self.what}: {self.limit}" if self.limit else self.what

    def as_json(self) -> Mapping[str, str]:
        """As a row of the report."""
        row = {name: str(value) for name, value in asdict(self).items() if name != "most"}
        return {name: value for name, value in row.items() if value or name != "limit"}


def of(runbook: Runbook) -> tuple[Permission, ...]:
    """All of them, in the order of the steps; verifiers last."""
    found: list[Permission] = []
    for step in runbook.steps:
        if isinstance(step, ScriptStep):
            target = runbook.targets.get(step.target) if step.target else None
            found += _rows(runbook.name, step.id, target, _does(step), step.grant, step.login, step.tool)
            found += _of_agent(runbook, step, target)
    for target in runbook.targets.values():
        who = f"verifier of {target.name}"
        found += _rows(runbook.name, who, target, Does.MEASURES, target.verifier_grant, target.verifier, PROBE)
        if target.database:
            login = target.database
            what = f"{login.user}@{target.host}:{login.port}/{login.name}"
            found.append(Permission(runbook.name, who, target.name, Does.MEASURES, Kind.DATABASE, what, PROBE))
            found += _rows(runbook.name, who, target, Does.MEASURES, login.grant, None, PROBE)
    return tuple(found)


def _does(step: ScriptStep) -> Does:
    if step.access is Access.WRITE:
        return Does.CHANGES_AFTER_A_YES if step.approval else Does.CHANGES
    return Does.READS if step.access is Access.READ else Does.NOTHING


def _rows(
    runbook: str, who: str, target: Target | None, does: Does, grant: Grant, login: Login | None, by: str
) -> Iterator[Permission]:
    name = target.name if target else ""

    def row(kind: Kind, what: str) -> Permission:
        return Permission(runbook, who, name, does, kind, what, str(by))

    values = {"target": {"host": target.host}} if target else {}
    if target:
        yield row(Kind.TARGET, target.host)
    if target and login:
        yield row(Kind.LOGIN, f"{login.user}@{target.host}:{target.port}")
    for endpoint in grant.network:
        host = template.fill(endpoint.host, values) if target else endpoint.host
        yield row(Kind.DIAL, f"{host}:{endpoint.port}")
    for secret in grant.secrets:
        yield row(Kind.SECRET, f"{secret.path} [{', '.join(secret.fields)}]")


def _of_agent(runbook: Runbook, step: ScriptStep, target: Target | None) -> Iterator[Permission]:
    """What an agent's step may do besides, and what leaves the house for its model."""
    if step.agent is None:
        return
    row = Permission(runbook.name, step.id, target.name if target else "", _does(step), Kind.MODEL, "", step.tool)
    yield replace(row, what=step.agent.model)
    for what in _shown_to(runbook, step, step.agent):
        yield replace(row, kind=Kind.SHOWN, what=what)
    tools = step.agent.tools
    for command in tools.run:
        where = f" on {target.host}" if command.on is Where.TARGET and target else " in its VM"
        what, limit = shlex.join(command.argv) + where, "each after a yes" if command.ask else ""
        yield replace(row, kind=Kind.RUN, what=what, limit=limit, most=int(not command.ask))
    for log in tools.logs:
        yield replace(row, kind=Kind.LOG, what=f"{log.name} ({shlex.join(log.argv)})")
    for kind, names in ((Kind.READ, tools.reads), (Kind.WRITE, tools.writes), (Kind.METRIC, tools.metrics)):
        yield from (replace(row, kind=kind, what=name) for name in names)
    if step.agent.cli is not None:
        yield replace(row, kind=Kind.RUN, what=f"any command in its VM, by {step.agent.cli}")
    budget = step.agent.budget
    counted = [("requests", budget.requests), ("tokens", budget.tokens)]
    for name, most in [*counted, ("calls", budget.calls)] if step.agent.cli is None else counted:
        yield replace(row, kind=Kind.BUDGET, what=name, limit=f"{most:,}", most=most)
    spend = budget.microdollars
    limit, most = ("no limit of its own", sys.maxsize) if spend is None else (f"{spend / 1e6:.2f}", spend)
    yield replace(row, kind=Kind.BUDGET, what="dollars", limit=limit, most=most)


def _shown_to(runbook: Runbook, step: ScriptStep, agent: AgentRule) -> Iterator[str]:
    """What the provider of the model is sent; secrets are never among it."""
    yield from (f"the text of {file}" for file in (step.script.file, *agent.context))
    yield "the rules of agents.md"
    yield from (f"input {one.name}" for one in runbook.inputs)
    for other in runbook.steps[: runbook.steps.index(step)]:
        if isinstance(other, ScriptStep) and other.output:
            yield f"what {other.id} said"
    if step.target:
        yield "the name of its target"
    if step.uses:
        yield f"names and sizes of what {step.uses} made"
    if agent.cli is not None:
        yield "whatever its VM holds and may dial"
    if agent.tools != Tools():
        yield "what its tools answer, secrets taken out"


@dataclass(frozen=True, slots=True)
class Change:
    """What changed between two states. `wider`: new, or for more than before; `narrower`: gone, or for less."""

    wider: tuple[Permission, ...]
    narrower: tuple[Permission, ...]


def compare(before: Iterable[Permission], now: Iterable[Permission]) -> Change:
    """What was widened and what was narrowed; of two rows with one key the one that does more counts."""
    was, today = _most(before), _most(now)
    wider = [row for key, row in today.items() if key not in was or was[key].reach < row.reach]
    narrower = [row for key, row in was.items() if key not in today or today[key].reach < row.reach]
    return Change(tuple(sorted(wider)), tuple(sorted(narrower)))


def _most(rows: Iterable[Permission]) -> dict[tuple[str, ...], Permission]:
    found: dict[tuple[str, ...], Permission] = {}
    for row in rows:
        other = found.get(row.key)
        if other is None or other.reach < row.reach:
            found[row.key] = row
    return found


def table(rows: Iterable[Permission]) -> str:
    """As columns for people."""
    lines = [("RUNBOOK", "WHO", "BY", "DOES", "TARGET", "MAY", "WHAT")]
    lines += [
        (row.runbook, row.who, row.by, str(row.does), row.target or "-", str(row.kind), row.shown) for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
