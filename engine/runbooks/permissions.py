"""What a runbook's steps and verifiers may touch, one row a permission: the report for the security team."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from engine.domain import template
from engine.domain.runbook import Access, Grant, Login, Runbook, ScriptStep, Target


class Kind(enum.StrEnum):
    """What is permitted."""

    TARGET = "target"
    LOGIN = "login"
    DIAL = "dial"
    DATABASE = "database"
    SECRET = "secret"  # noqa: S105 - a word, no secret


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
    secret's path with its fields; `by`: what does it, a tool or a gate's probe."""

    runbook: str
    who: str
    target: str
    does: Does
    kind: Kind
    what: str
    by: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two of them the same permission, whatever it is for."""
        return self.runbook, self.who, self.kind, self.what

    def as_json(self) -> Mapping[str, str]:
        """As a row of the report."""
        return {name: str(value) for name, value in asdict(self).items()}


def of(runbook: Runbook) -> tuple[Permission, ...]:
    """All of them, in the order of the steps; verifiers last."""
    found: list[Permission] = []
    for step in runbook.steps:
        if isinstance(step, ScriptStep):
            target = runbook.targets.get(step.target) if step.target else None
            found += _rows(runbook.name, step.id, target, _does(step), step.grant, step.login, step.tool)
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


@dataclass(frozen=True, slots=True)
class Change:
    """What changed between two states. `wider`: new, or for more than before; `narrower`: gone, or for less."""

    wider: tuple[Permission, ...]
    narrower: tuple[Permission, ...]


def compare(before: Iterable[Permission], now: Iterable[Permission]) -> Change:
    """What was widened and what was narrowed; of two rows with one key the one that does more counts."""
    was, today = _most(before), _most(now)
    wider = [row for key, row in today.items() if key not in was or _RANK[was[key].does] < _RANK[row.does]]
    narrower = [row for key, row in was.items() if key not in today or _RANK[today[key].does] < _RANK[row.does]]
    return Change(tuple(sorted(wider)), tuple(sorted(narrower)))


def _most(rows: Iterable[Permission]) -> dict[tuple[str, ...], Permission]:
    found: dict[tuple[str, ...], Permission] = {}
    for row in rows:
        other = found.get(row.key)
        if other is None or _RANK[other.does] < _RANK[row.does]:
            found[row.key] = row
    return found


def table(rows: Iterable[Permission]) -> str:
    """As columns for people."""
    lines = [("RUNBOOK", "WHO", "BY", "DOES", "TARGET", "MAY", "WHAT")]
    lines += [(row.runbook, row.who, row.by, str(row.does), row.target or "-", str(row.kind), row.what) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
