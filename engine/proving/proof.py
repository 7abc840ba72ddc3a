"""Gates must be able to fail: each is seen green on good examples and red on bad ones, and notices being broken.

`prove` is what `signalbox runbook test` shows; `proved` what activating a runbook demands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from engine.domain.errors import BadInput
from engine.domain.gate import Check, Facts, QuorumCheck
from engine.domain.journey import Leg
from engine.domain.runbook import Snapshot
from engine.domain.states import Verdict
from engine.proving import examples, mutants, replay
from engine.proving.examples import Example, Tests
from engine.proving.kinds import KINDS, Answer
from engine.proving.mutants import Mutant
from engine.proving.parts import Part, parts, quorums
from engine.proving.replay import Case

MUST_DIE = 0.95
MAY_BE_DECLARED = 0.1
""" So many of all mutants may be declared to survive: more would be a gate that nobody tests. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A mutant that no example noticed; `because` is empty where nobody declared it."""

    gate: str
    check: str
    mutant: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckProof:
    """What was seen of one check. `no_data`: answers that must never hold, derived from its first good example."""

    gate: str
    check: str
    type: str
    green: int
    red: int
    no_data: int
    mutants: int
    survivors: tuple[Survivor, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was seen of a runbook's gates."""

    runbook: str
    checks: tuple[CheckProof, ...]
    problems: tuple[str, ...]

    @property
    def mutants(self) -> int:
        """How many were made."""
        return sum(check.mutants for check in self.checks)

    @property
    def survivors(self) -> tuple[Survivor, ...]:
        """Those that lived."""
        return tuple(survivor for check in self.checks for survivor in check.survivors)


def proved(snapshot: Snapshot) -> tuple[str, ...]:
    """Why the gates of this runbook are not to be trusted yet; empty when each was seen both ways and mutants die."""
    try:
        return prove(snapshot).problems
    except BadInput as error:
        return tuple(str(error).splitlines())


def prove(snapshot: Snapshot) -> Proof:
    """Replay all examples, and once more on every mutant. Raises BadInput for examples that do not read."""
    tests = examples.read(snapshot)
    facts = replay.facts_of(snapshot.runbook, tests.inputs)
    gates = examples.gates_of(snapshot.runbook)
    checks = tuple(proof for gate in gates for proof in _gate(gate, tests, facts))
    proof = Proof(runbook=snapshot.runbook.name, checks=checks, problems=())
    return replace(proof, problems=(*(what for one in checks for what in one.problems), *_mutants(proof, tests)))


def _mutants(proof: Proof, tests: Tests) -> Iterator[str]:
    lived = {(one.gate, one.check, one.mutant) for one in proof.survivors}
    declared = [one for one in proof.survivors if one.because]
    for gate, check, mutant in tests.survivors.keys() - lived:
        yield f"{gate}.{check}: the mutant `{mutant}` is declared to survive and does not; remove it"
    counted = proof.mutants - len(declared)
    died = proof.mutants - len(lived)
    if counted and died / counted < MUST_DIE:
        yield f"{died} of {counted} mutants died, fewer than {MUST_DIE:.0%}: write examples that notice the others"
    if len(declared) > MAY_BE_DECLARED * proof.mutants:
        yield f"{len(declared)} of {proof.mutants} mutants are declared to survive, more than {MAY_BE_DECLARED:.0%}"


def _gate(gate: Leg, tests: Tests, facts: Facts) -> Iterator[CheckProof]:
    for part in parts(gate):
        made = tuple(mutants.mutants(part, tests.examples[gate.id, part.check.id]))
        yield _seen(part.gate, part.check, _cases(part, tests), made, tests, facts)
    for number, quorum in quorums(gate):
        made = tuple(mutants.of_quorum(gate, number, quorum))
        yield _seen(gate, quorum, _cases_of_quorum(gate, quorum, tests), made, tests, facts)


def _seen(
    gate: Leg,
    check: Check,
    made_up: Mapping[str, Iterator[Case]],
    made: tuple[Mutant, ...],
    tests: Tests,
    facts: Facts,
) -> CheckProof:
    cases = {kind: tuple(some) for kind, some in made_up.items()}
    problems = [
        f"{gate.id}.{check.id}: {case.what} must {_demand(case)}, and is {found.verdict}: {found.why[:200]}"
        for case in (*cases["good"], *cases["bad"], *cases["never"])
        if not case.noticed_by((found := replay.judge(gate, case, facts)).verdict)
    ]
    everything = (*cases["bad"], *cases["good"], *cases["never"])
    lived = [mutant.what for mutant in made if not _dies(mutant, everything, facts)]
    declared = {what: tests.survivors.get((gate.id, check.id, what), "") for what in lived}
    return CheckProof(
        gate=gate.id,
        check=check.id,
        type=check.type,
        green=len(cases["good"]),
        red=len(cases["bad"]),
        no_data=len(cases["never"]),
        mutants=len(made),
        survivors=tuple(
            Survivor(gate=gate.id, check=check.id, mutant=what, because=because) for what, because in declared.items()
        ),
        problems=tuple(problems),
    )


def _demand(case: Case) -> str:
    return f"be {case.verdict}" if case.verdict else "not hold"


def _cases(part: Part, tests: Tests) -> Mapping[str, Iterator[Case]]:
    """What this check is told, while all others are told that all is well."""
    check = part.check
    mine, well = tests.examples[part.gate.id, check.id], _all_is_well(part.gate, tests)

    def case(what: str, answers: tuple[Answer, ...], verdict: Verdict | None) -> Case:
        return Case(about=check.id, what=what, told={**well, check.id: answers}, verdict=verdict)

    def given(name: str, of: tuple[Example, ...]) -> Iterator[Case]:
        return (case(f"{name}[{number}]", one.answers, one.verdict) for number, one in enumerate(of))

    never = KINDS[check.type].never(check, mine.good[0].answers[0])
    return {
        "good": given("good", mine.good),
        "bad": given("bad", mine.bad),
        "never": (case(what, (answer,), None) for what, answer in never),
    }


def _all_is_well(gate: Leg, tests: Tests) -> Mapping[str, tuple[Answer, ...]]:
    return {part.check.id: tests.examples[gate.id, part.check.id].good[0].answers for part in parts(gate)}


def _cases_of_quorum(gate: Leg, quorum: QuorumCheck, tests: Tests) -> Mapping[str, Iterator[Case]]:
    """Just as many hold as must, and one fewer; each member is once among those that hold."""
    members = [member.id for member in quorum.checks]

    def case(first: int, hold: int, verdict: Verdict | None) -> Case:
        well = dict(_all_is_well(gate, tests))
        for name in (members[first:] + members[:first])[hold:]:
            well[name] = tests.examples[gate.id, name].bad[0].answers
        return Case(about=quorum.id, what=f"{hold} of {len(members)}", told=well, verdict=verdict)

    return {
        "good": (case(first, quorum.need, Verdict.HELD) for first in range(len(members))),
        "bad": (case(first, quorum.need - 1, None) for first in range(len(members))),
        "never": iter((case(0, 0, None),)),
    }


def _dies(mutant: Mutant, cases: tuple[Case, ...], facts: Facts) -> bool:
    """Whether a case sees that the gate does something else."""
    for case in cases:
        changed = replace(case, told={**case.told, **mutant.told})
        if not case.noticed_by(replay.judge(mutant.gate, changed, facts, mutant.weak).verdict):
            return True
    return False
