"""Gates broken on purpose: what examples must notice. Called by `proof`.

A query or a command is not broken: offline there is nobody who would answer another question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.domain.gate import INDEPENDENT, Check, ExprCheck, Json, QuorumCheck
from engine.domain.journey import Leg
from engine.proving.examples import Examples
from engine.proving.expression import broken, renamed
from engine.proving.kinds import KINDS, Answer
from engine.proving.kinds.expr import ExprAnswer
from engine.proving.parts import Part, with_check

CONDITIONS = ("expect", "unless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A gate with one thing wrong in one check. `told`: what that check is told instead, whatever a case says.

    `weak`: for this check no verdict counts as held.
    """

    check: str
    what: str
    gate: Leg
    weak: str = ""
    told: Mapping[str, tuple[Answer, ...]] = field(default_factory=dict)


def mutants(part: Part, examples: Examples) -> Iterator[Mutant]:
    """Every way in which this check of the gate could be a little wrong."""
    check = part.check
    for what, mutant in _checks(check):
        yield Mutant(check=check.id, what=what, gate=part.instead(mutant))
    yield Mutant(check=check.id, what="removed", gate=part.instead(None))
    yield Mutant(check=check.id, what="no data holds", gate=part.gate, weak=check.id)
    if not part.is_control:
        yield from _asks_the_step(part, examples)


def of_quorum(gate: Leg, number: int, quorum: QuorumCheck) -> Iterator[Mutant]:
    """One more or one fewer is needed, a member is forgotten, or all of it is."""

    def mutant(what: str, other: QuorumCheck | None) -> Mutant:
        return Mutant(check=quorum.id, what=what, gate=with_check(gate, number, other))

    for need in (quorum.need - 1, quorum.need + 1):
        yield mutant(f"need: {need}", replace(quorum, need=need))
    for member in quorum.checks:
        rest = tuple(one for one in quorum.checks if one is not member)
        yield mutant(f"without {member.id}", replace(quorum, checks=rest))
    yield mutant("removed", None)


def _checks(check: Check) -> Iterator[tuple[str, Check]]:
    for name in CONDITIONS:
        for expression in broken(getattr(check, name, None) or ""):
            yield f"{name}: {expression}", _changed(check, name, expression)
    if getattr(check, "unless", None) is not None:
        yield "unless: removed", _changed(check, "unless", None)
    yield from KINDS[check.type].broken(check)
    sampling = getattr(check, "sampling", None)
    if sampling is not None and sampling.count > 1:
        for count in sorted({1, sampling.count - 1}):
            yield f"sampling: {count} of {sampling.count}", _changed(check, "sampling", replace(sampling, count=count))


def _changed(check: Check, name: str, value: Any) -> Check:
    return replace(check, **{name: value})


def _asks_the_step(part: Part, examples: Examples) -> Iterator[Mutant]:
    """The check judges what the step says of itself; and the step says what would hold."""
    check, of = part.check, part.gate.of
    good = examples.good[0].answers[-1]
    says: dict[str, Json] = dict(KINDS[check.type].variables(check, good)) if isinstance(check, INDEPENDENT) else {}
    if of is None or not says:
        return
    expect = renamed(getattr(check, "expect", ""), says.keys(), lambda name: f"out.{name}")
    asks = ExprCheck(id=check.id, of=of, expect=expect)
    told = {check.id: (ExprAnswer(output=says),)}
    yield Mutant(check=check.id, what="asks the step itself", gate=part.instead(asks), told=told)
