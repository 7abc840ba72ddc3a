"""The legs of a run: a runbook's steps in the order in which they are really travelled.

The line is straight. A changing step with `rehearse: true` becomes four legs: do, undo, measure the undoing, do again,
so that the rollback was seen working on staging before anyone may need it on production. The rollback of a step that
is not rehearsed there is a line of its own, entered only by a person's decision:

    receive - diagnose - GATE - fix - staging:rehearse - staging:rollback - staging:rollback-gate - staging - GATE
            - production - GATE - close                         (production:rollback - production:rollback-gate)
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass

from engine.domain.gate import Check
from engine.domain.runbook import CloseStep, GateStep, ReceiveStep, Runbook, Script, ScriptStep, Step


class LegKind(enum.StrEnum):
    """What a leg needs: nothing, a VM, a gate, or the end of the run."""

    RECEIVE = "receive"
    ATTEMPT = "attempt"
    GATE = "gate"
    CLOSE = "close"
    ROLLED_BACK = "rolled_back"


class Role(enum.StrEnum):
    """Why an attempt leg runs."""

    FORWARD = "forward"
    REHEARSAL = "rehearsal"
    ROLLBACK = "rollback"


ROLLBACK_FRESH_S = 600
""" A rollback's gate certifies nothing that follows, so its age never matters; it only needs a number. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One leg. `step` is the runbook's step it came from; `script`/`role` for attempts; `of`/`checks` for gates, and
    `shadow`, which is measured and told, but not counted."""

    id: str
    kind: LegKind
    step: Step
    role: Role = Role.FORWARD
    script: Script | None = None
    of: str | None = None
    checks: tuple[Check, ...] = ()
    fresh_for_s: int = 0
    shadow: tuple[Check, ...] = ()


def _attempt(step: ScriptStep, suffix: str, role: Role, script: Script) -> Leg:
    return Leg(id=step.id + suffix, kind=LegKind.ATTEMPT, step=step, role=role, script=script)


def _undo(step: ScriptStep) -> tuple[Leg, ...]:
    if step.rollback is None:
        return ()
    return (
        _attempt(step, ":rollback", Role.ROLLBACK, step.rollback.script),
        Leg(
            id=f"{step.id}:rollback-gate",
            kind=LegKind.GATE,
            step=step,
            role=Role.ROLLBACK,
            of=f"{step.id}:rollback",
            checks=step.rollback.checks,
            fresh_for_s=ROLLBACK_FRESH_S,
            shadow=step.rollback.shadow,
        ),
    )


def _legs_of(step: Step) -> tuple[Leg, ...]:
    match step:
        case ReceiveStep():
            return (Leg(id=step.id, kind=LegKind.RECEIVE, step=step),)
        case CloseStep():
            return (Leg(id=step.id, kind=LegKind.CLOSE, step=step),)
        case GateStep():
            gate = Leg(
                id=step.id,
                kind=LegKind.GATE,
                step=step,
                of=step.of,
                checks=step.checks,
                fresh_for_s=step.fresh_for_s,
                shadow=step.shadow,
            )
            return (gate,)
        case ScriptStep():
            forward = _attempt(step, "", Role.FORWARD, step.script)
            if not (step.rehearse and step.rollback):
                return (forward,)
            return (_attempt(step, ":rehearse", Role.REHEARSAL, step.script), *_undo(step), forward)


@dataclass(frozen=True, slots=True)
class Journey:
    """All legs of a runbook: the main line, and one rollback line for each step that may be undone by a decision."""

    line: tuple[Leg, ...]
    rollbacks: tuple[tuple[Leg, ...], ...]

    def leg(self, leg_id: str) -> Leg:
        """The leg of this id; raises KeyError."""
        for leg in self._all():
            if leg.id == leg_id:
                return leg
        raise KeyError(leg_id)

    def after(self, leg_id: str) -> Leg:
        """The leg that follows; raises KeyError for the last one."""
        for line in (self.line, *self.rollbacks):
            for here, following in itertools.pairwise(line):
                if here.id == leg_id:
                    return following
        raise KeyError(leg_id)

    def gate_before(self, leg_id: str) -> Leg | None:
        """The nearest gate before this leg on its line, or None."""
        gate = None
        for leg in self.line:
            if leg.id == leg_id:
                return gate
            if leg.kind is LegKind.GATE:
                gate = leg
        return None

    def rollback_of(self, step_id: str) -> Leg | None:
        """The first leg of the rollback line of a step, or None when it has none."""
        for line in self.rollbacks:
            if line[0].step.id == step_id:
                return line[0]
        return None

    def _all(self) -> tuple[Leg, ...]:
        return self.line + tuple(leg for line in self.rollbacks for leg in line)


def plan(runbook: Runbook) -> Journey:
    """Lay out the legs of a runbook."""
    line = tuple(leg for step in runbook.steps for leg in _legs_of(step))
    on_the_line = {leg.id for leg in line}
    lines = []
    for step in runbook.steps:
        if isinstance(step, ScriptStep):
            undo = _undo(step)
            if undo and undo[0].id not in on_the_line:
                end = Leg(id=f"{step.id}:rolled-back", kind=LegKind.ROLLED_BACK, step=step, role=Role.ROLLBACK)
                lines.append((*undo, end))
    return Journey(line=line, rollbacks=tuple(lines))
