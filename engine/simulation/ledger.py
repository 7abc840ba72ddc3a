"""What really happened outside in one path, and whether any of it was unsafe. Called by `outside` and `stage`.

It knows the runbook and what was done, and believes nothing that the machine says of itself: neither its table of moves
nor its boundary nor its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from engine.domain import within
from engine.domain.gate import Check
from engine.domain.journey import Leg, LegKind, Role
from engine.domain.runbook import Access, Runbook, ScriptStep
from engine.domain.states import Decision, Verdict

SLACK = timedelta(minutes=1)
""" Between the look at a gate's age and the change there is a little time, and a gate's samples take some. """


@dataclass(frozen=True, slots=True)
class Course:
    """The legs of a runbook in the order in which they are travelled, for whoever wants to know what must come first.

    `line`: the main line; `undoing`: what is entered only by a person's decision to roll back.
    """

    runbook: Runbook
    line: tuple[Leg, ...]
    undoing: tuple[Leg, ...]

    def leg(self, leg_id: str) -> Leg:
        """The leg of this id; raises KeyError."""
        return {leg.id: leg for leg in (*self.line, *self.undoing)}[leg_id]

    def gate_before(self, leg_id: str) -> Leg | None:
        """The nearest gate before a leg of the main line; None for a leg of an undoing, and where there is none."""
        names = [leg.id for leg in self.line]
        before = self.line[: names.index(leg_id)] if leg_id in names else ()
        return next((leg for leg in reversed(before) if leg.kind is LegKind.GATE), None)

    def behind(self, leg_id: str) -> frozenset[str]:
        """The legs of its line that a run has passed where it stands at this leg."""
        return frozenset(leg.id for leg in self.before(leg_id))

    def before(self, leg_id: str) -> tuple[Leg, ...]:
        """The same in their order."""
        line = self._line_of(leg_id)
        return line[: [leg.id for leg in line].index(leg_id)]

    def ahead(self, leg_id: str) -> tuple[Leg, ...]:
        """What of its line it has not passed, the leg itself first."""
        line = self._line_of(leg_id)
        return line[[leg.id for leg in line].index(leg_id) :]

    def _line_of(self, leg_id: str) -> tuple[Leg, ...]:
        return self.line if leg_id in {leg.id for leg in self.line} else self.undoing

    def changes(self, leg: Leg) -> bool:
        """Whether a leg writes to its target."""
        return leg.kind is LegKind.ATTEMPT and isinstance(leg.step, ScriptStep) and leg.step.access is Access.WRITE

    def target(self, leg: Leg) -> str:
        """The name of a leg's target."""
        return (isinstance(leg.step, ScriptStep) and leg.step.target) or ""

    def protected(self, leg: Leg) -> bool:
        """Whether a leg works on a protected target."""
        target = self.target(leg)
        return bool(target) and self.runbook.targets[target].protected

    def measured(self, samples: Sequence[tuple[Check, Verdict]], at: str) -> tuple[Leg, bool] | None:
        """Which gate these samples are one whole measurement of, and whether it held; `at` decides between equals."""
        asked: list[Check] = []
        for check, _ in samples:
            if not asked or asked[-1] != check:
                asked.append(check)
        gates = [leg for leg in (*self.line, *self.undoing) if leg.kind is LegKind.GATE]
        gates = [leg for leg in gates if within.measured(leg.checks) == tuple(asked)]
        gates.sort(key=lambda leg: leg.id != at)
        return (gates[0], all(verdict is Verdict.HELD for _, verdict in samples)) if gates else None


@dataclass(frozen=True, slots=True)
class Change:
    """A target was changed."""

    leg: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One path so far. Every method returns what it is afterwards; `wrong` is what must never happen and did.

    `held`: gates whose newest measurement held -> when, as long as nothing ran that they judge. `spent`: (gate, leg):
    a change that was tried under it, and so not again. `yes`: (leg, image): a person's yes that is not used yet;
    `calls`: the same, to one call of an agent. `ran`: leg -> content that an unprotected target got. `tested`: contents
    whose gate held there. `tried`: changes since a person decided for another try. `may_undo`: a person decided to roll
    back. `over`: the source says that it is over, and nobody decided to go on.
    """

    held: Mapping[str, datetime] = field(default_factory=dict)
    spent: frozenset[tuple[str, str]] = frozenset()
    yes: frozenset[tuple[str, str]] = frozenset()
    calls: frozenset[tuple[str, str]] = frozenset()
    ran: Mapping[str, str] = field(default_factory=dict)
    tested: frozenset[str] = frozenset()
    tried: frozenset[str] = frozenset()
    undoing: bool = False
    may_undo: bool = False
    over: bool = False
    changes: tuple[Change, ...] = ()
    wrong: tuple[str, ...] = ()

    # -- what was done

    def worked(self, course: Course, leg: Leg, content: str, image: str, now: datetime) -> Ledger:
        """The command of an attempt did what it is there for."""
        held = {gate: at for gate, at in self.held.items() if course.leg(gate).of != leg.id}
        if not course.changes(leg):
            return replace(self, held=held)
        wrong = self._against(course, leg, content, image, now)
        gate = course.gate_before(leg.id)
        return replace(
            self,
            held=held,
            spent=self.spent | ({(gate.id, leg.id)} if gate else set()),
            yes=frozenset(given for given in self.yes if given[0] != leg.id),
            ran={name: what for name, what in self.ran.items() if name != leg.id},
            tried=self.tried | {leg.id},
            may_undo=False,
            changes=(*self.changes, Change(leg.id, course.target(leg))),
            wrong=(*self.wrong, *(f"{leg.id} changed {course.target(leg)}: {what}" for what in wrong)),
        )

    def finished(self, course: Course, leg: Leg, content: str) -> Ledger:
        """An attempt ended as it should: what an unprotected target got may be judged."""
        if course.changes(leg) and not course.protected(leg):
            return replace(self, ran={**self.ran, leg.id: content})
        return self

    def measured(self, gate: Leg, now: datetime, *, held: bool) -> Ledger:
        """A gate was measured."""
        others = {name: at for name, at in self.held.items() if name != gate.id}
        if not held:
            return replace(self, held=others)
        tested = {self.ran[gate.of]} if gate.of is not None and gate.of in self.ran else set()
        return replace(
            self,
            held={**others, gate.id: now},
            spent=frozenset(pair for pair in self.spent if pair[0] != gate.id),
            tested=self.tested | tested,
        )

    def approved(self, leg: str, image: str) -> Ledger:
        """A person said yes to a leg, as things stood."""
        return replace(self, yes=self.yes | {(leg, image)})

    def allowed(self, leg: str, image: str) -> Ledger:
        """A person said yes to one call of a leg's agent, as things stood."""
        return replace(self, calls=self.calls | {(leg, image)})

    def called(self, leg: str, image: str) -> Ledger:
        """An agent made a call that takes a yes."""
        wrong = () if (leg, image) in self.calls else (f"{leg} made a call that nobody said yes to",)
        return replace(self, calls=self.calls - {(leg, image)}, wrong=(*self.wrong, *wrong))

    def decided(self, decision: Decision) -> Ledger:
        """A person decided for a halted run: another try is a new one."""
        undoing = self.undoing or decision is Decision.ROLL_BACK
        return replace(self, tried=frozenset(), undoing=undoing, may_undo=undoing, over=False)

    def halted(self) -> Ledger:
        """The run stopped: a yes does not outlive it."""
        return replace(self, yes=frozenset(), calls=frozenset())

    def resolved(self) -> Ledger:
        """The source says that it is over."""
        return replace(self, over=True)

    # -- what must not be

    def _against(self, course: Course, leg: Leg, content: str, image: str, now: datetime) -> list[str]:
        """Everything that speaks against a change that was just made."""
        wrong = []
        undoes = leg in course.undoing
        if undoes and not self.may_undo:
            wrong.append("nobody decided to roll back")
        if not undoes:
            wrong += self._gate(course, leg, now)
        if course.protected(leg) and content not in self.tested:
            wrong.append("what was applied was not tested on an unprotected target, with a held gate after it")
        if course.protected(leg) and not undoes and (leg.id, image) not in self.yes:
            wrong.append("nobody said yes to it")
        if self.over:
            wrong.append("the source had said that it is over, and nobody decided to go on")
        if isinstance(leg.step, ScriptStep) and not leg.step.idempotent and leg.id in self.tried:
            wrong.append("it was tried before, and nobody decided for another try")
        return wrong

    def _gate(self, course: Course, leg: Leg, now: datetime) -> list[str]:
        gate = course.gate_before(leg.id)
        if gate is None:
            return ["no gate stands before it"]
        if gate.id not in self.held:
            return [f"the gate {gate.id} before it did not hold"]
        if (gate.id, leg.id) in self.spent:
            return [f"the gate {gate.id} was not measured again since it was tried before"]
        old = now - self.held[gate.id] > timedelta(seconds=gate.fresh_for_s) + SLACK
        return [f"the gate {gate.id} held too long ago"] if old and leg.role is not Role.ROLLBACK else []

    def passed(self, course: Course, leg_id: str) -> list[str]:
        """What speaks against that a run stands at this leg: each gate that it passed must have held."""
        gates = [leg.id for leg in course.before(leg_id) if leg.kind is LegKind.GATE and leg.id not in self.held]
        return [f"it went past the gate {gate}, which did not hold" for gate in gates]

    def stands(self, course: Course, leg_id: str, now: datetime) -> tuple[object, ...]:
        """What of it matters for the future, so that two paths may be told to have come to the same place.

        What lies ahead is done anew before anything relies on it: of that, only what was tried matters.
        """
        behind, ahead = course.behind(leg_id), course.ahead(leg_id)
        gate = course.gate_before(leg_id) if course.changes(ahead[0]) else None
        measured = self.held.get(gate.id) if gate is not None else None
        all_tested = not any(course.changes(leg) and not course.protected(leg) for leg in ahead)
        names = {leg.id for leg in ahead}
        return (
            frozenset(self.held.keys() & behind),
            gate is not None and measured is not None and now - measured <= timedelta(seconds=gate.fresh_for_s),
            frozenset((gate, leg) for gate, leg in self.spent if gate in behind and leg in names),
            self.yes,
            self.calls,
            tuple(sorted((leg, content) for leg, content in self.ran.items() if leg in behind)),
            self.tested & set(self.ran.values()) if all_tested else frozenset(),
            self.tried & names,
            self.may_undo,
            self.over,
        )
