"""What of a gate is proved one by one: its checks, the members of a quorum, the controls. Called by the other modules.

A control is called `CHECK.control` here and in examples, so that it can be told something else than its check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.domain.gate import Check, QuorumCheck
from engine.domain.journey import Leg

CONTROL = ".control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A check, the gate that is judged when the check is told things, and that gate with something else in its place.

    A member of a quorum is judged alone: its quorum could do without it.
    """

    check: Check
    gate: Leg
    instead: Callable[[Check | None], Leg]

    @property
    def is_control(self) -> bool:
        """Whether it is only there to show that its check's probe sees."""
        return self.check.id.endswith(CONTROL)


def named(gate: Leg) -> Leg:
    """The gate with every control called after its check."""
    return replace(gate, checks=tuple(map(_named, gate.checks)))


def _named(check: Check) -> Check:
    if isinstance(check, QuorumCheck):
        return replace(check, checks=tuple(map(_named, check.checks)))
    control: Check | None = getattr(check, "control", None)
    return check if control is None else _with(check, control=replace(control, id=check.id + CONTROL))


def parts(gate: Leg) -> Iterator[Part]:
    """Everything that has examples of its own, in order: all but quorums."""
    for number, check in enumerate(gate.checks):
        if isinstance(check, QuorumCheck):
            for member in check.checks:
                yield from parts(replace(gate, checks=(member,)))
            continue
        yield Part(check=check, gate=gate, instead=_in_place(gate, number))
        control: Check | None = getattr(check, "control", None)
        if control is not None:
            yield Part(check=control, gate=gate, instead=_in_control(gate, number))


def quorums(gate: Leg) -> Iterator[tuple[int, QuorumCheck]]:
    """Each with its place among the gate's checks."""
    return ((number, check) for number, check in enumerate(gate.checks) if isinstance(check, QuorumCheck))


def with_check(gate: Leg, number: int, check: Check | None) -> Leg:
    """The gate with this check at that place; None leaves it out."""
    middle = () if check is None else (check,)
    return replace(gate, checks=(*gate.checks[:number], *middle, *gate.checks[number + 1 :]))


def _in_place(gate: Leg, number: int) -> Callable[[Check | None], Leg]:
    return lambda check: with_check(gate, number, check)


def _in_control(gate: Leg, number: int) -> Callable[[Check | None], Leg]:
    return lambda control: with_check(gate, number, _with(gate.checks[number], control=control))


def _with(check: Check, **changed: Any) -> Check:
    """The fields are those of the check's own type, which has a control."""
    return replace(check, **changed)
