"""The examples of a runbook's gates: NAME/tests.yaml, read into typed answers, every problem at once.

Called by `proof`. The file:

    schema: tests/v1
    inputs: {mount: /srv}
    gates:
      tests-pass:
        room:
          good: [{stdout: "Use%\\n 79%\\n"}]
          bad: [{stdout: "Use%\\n 80%\\n"}]

The keys of `gates` are gates as the machine calls them (`staging:rollback-gate` is the one after the rollback), below
them their checks, the members of a quorum among them, and `CHECK.control` for a control. The fields of an example are
what the check's source says (`engine.proving.kinds`), and:
`then`: what it says to the samples after the first; `verdict` (of a bad one): exactly this must be found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from engine.domain.errors import BadInput
from engine.domain.gate import Check
from engine.domain.journey import Leg, LegKind, plan
from engine.domain.runbook import Runbook, Snapshot
from engine.domain.states import Verdict
from engine.proving.kinds import KINDS, Answer
from engine.proving.parts import named, parts
from engine.runbooks import positions
from engine.runbooks.positions import Document, Place, Problem
from engine.runbooks.scalars import Edge, Reason

FILE = "tests.yaml"
Gate = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}(:rollback-gate)?$")]
Recorded = Annotated[dict[str, Any], Field(min_length=1, max_length=20)]


class ExampleEdge(Edge):
    """What every example may have beside the fields of its kind."""

    verdict: Literal["failed", "inconclusive", "error"] | None = None
    then: list[Recorded] = Field(default_factory=list, max_length=59)


class ExamplesEdge(Edge):
    """When all is well, and when it is not."""

    good: list[Recorded] = Field(min_length=1, max_length=20)
    bad: list[Recorded] = Field(min_length=1, max_length=20)


class SurvivorEdge(Edge):
    """A mutant that no example can notice, and why that is no harm."""

    gate: Gate
    check: str = Field(max_length=40)
    mutant: str = Field(max_length=600)
    because: Reason


class TestsEdge(Edge):
    """The whole file."""

    schema_: Literal["tests/v1"] = Field(alias="schema")
    inputs: dict[str, Annotated[str, Field(max_length=200)]] = Field(default_factory=dict, max_length=20)
    gates: dict[Gate, dict[str, ExamplesEdge]] = Field(min_length=1, max_length=60)
    survivors: list[SurvivorEdge] = Field(default_factory=list, max_length=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What a check is told, sample by sample (the last answer once more when there are more samples than answers).

    `verdict`: what must be found; None is anything but held.
    """

    answers: tuple[Answer, ...]
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Of one check: at least one of each."""

    good: tuple[Example, ...]
    bad: tuple[Example, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tests:
    """All examples by gate and check, and the mutants that may survive: (gate, check, mutant) -> why."""

    inputs: Mapping[str, str]
    examples: Mapping[tuple[str, str], Examples]
    survivors: Mapping[tuple[str, str, str], str]


def gates_of(runbook: Runbook) -> tuple[Leg, ...]:
    """Every gate that a run of it may come to, those after its rollbacks too; controls have names of their own."""
    journey = plan(runbook)
    legs = (*journey.line, *(leg for line in journey.rollbacks for leg in line))
    return tuple(named(leg) for leg in legs if leg.kind is LegKind.GATE)


def read(snapshot: Snapshot) -> Tests:
    """The examples of a runbook; raises BadInput that lists every problem with its line."""
    name = f"{snapshot.runbook.name}/{FILE}"
    data = snapshot.files.get(FILE)
    if data is None:
        raise BadInput(f"there is no {name}", "write examples for every gate; README shows how")
    try:
        document = positions.read(data.decode())
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 at byte {error.start}", "save the file as UTF-8") from None
    file = _validated(document)
    tests = _typed(file, snapshot.runbook, document) if file is not None else None
    if tests is None or document.problems:
        lines = [f"{name}:{problem.line}: {problem.what} - {problem.mend}" for problem in sorted(document.problems)]
        raise BadInput("\n".join(lines[:40]), "mend the examples")
    return tests


def _validated(document: Document) -> TestsEdge | None:
    if document.problems:
        return None
    try:
        return TestsEdge.model_validate(document.value)
    except ValidationError as error:
        document.problems += _problems(document, error, ())
        return None


def _problems(document: Document, error: ValidationError, place: Place) -> Iterator[Problem]:
    for detail in error.errors(include_url=False, include_context=False):
        where = (*place, *(part for part in detail["loc"] if part != "[key]"))
        spelled = ".".join(map(str, where)) or "the file"
        yield Problem(*document.spot(where), spelled[:200], detail["msg"][:1].lower() + detail["msg"][1:200])


def _typed(file: TestsEdge, runbook: Runbook, document: Document) -> Tests:
    gates = {gate.id: {part.check.id: part.check for part in parts(gate)} for gate in gates_of(runbook)}
    examples: dict[tuple[str, str], Examples] = {}
    for gate, checks in file.gates.items():
        for name, edge in checks.items():
            place: Place = ("gates", gate, name)
            check = gates.get(gate, {}).get(name)
            if check is None:
                known = ", ".join(gates.get(gate, gates)) or "none"
                document.problems.append(
                    Problem(*document.spot(place), f"{gate}.{name} is no check", f"known: {known}")
                )
            elif check.type in KINDS:
                examples[gate, name] = Examples(
                    good=_examples(edge.good, check, Verdict.HELD, (*place, "good"), document),
                    bad=_examples(edge.bad, check, None, (*place, "bad"), document),
                )
    document.problems += _missing(gates, examples, document)
    return Tests(
        inputs=_inputs(file, runbook, document),
        examples=examples,
        survivors={(one.gate, one.check, one.mutant): one.because for one in file.survivors},
    )


def _missing(
    gates: Mapping[str, Mapping[str, Check]], examples: Mapping[tuple[str, str], Examples], document: Document
) -> Iterator[Problem]:
    for gate, checks in gates.items():
        for name, check in checks.items():
            spot = document.spot(("gates", gate))
            if check.type not in KINDS:
                yield Problem(*spot, f"{gate}.{name}: nobody can replay a check of type {check.type}", "add its kind")
            elif (gate, name) not in examples:
                yield Problem(*spot, f"{gate}.{name} has no examples", "give it good ones and bad ones")


def _examples(
    raw: list[dict[str, Any]], check: Check, verdict: Verdict | None, place: Place, document: Document
) -> tuple[Example, ...]:
    return tuple(
        example
        for number, one in enumerate(raw)
        if (example := _example(one, check, verdict, (*place, number), document)) is not None
    )


def _example(
    raw: dict[str, Any], check: Check, verdict: Verdict | None, place: Place, document: Document
) -> Example | None:
    around = {key: value for key, value in raw.items() if key in ExampleEdge.model_fields}
    own = {key: value for key, value in raw.items() if key not in around}
    answer = KINDS[check.type].answer
    try:
        edge = ExampleEdge.model_validate(around)
        answers = tuple(answer.model_validate(one) for one in (own, *edge.then))
    except ValidationError as error:
        document.problems += _problems(document, error, place)
        return None
    demanded = Verdict(edge.verdict) if edge.verdict else verdict
    if verdict is Verdict.HELD and edge.verdict:
        document.problems.append(Problem(*document.spot(place), "a good example holds", "remove its verdict"))
    return Example(answers=answers, verdict=demanded)


def _inputs(file: TestsEdge, runbook: Runbook, document: Document) -> Mapping[str, str]:
    """A value for each input; one with an enum need not be given."""
    found = {rule.name: rule.enum[0] for rule in runbook.inputs if rule.enum} | dict(file.inputs)
    rules = {rule.name: rule for rule in runbook.inputs}
    spot = document.spot(("inputs",))
    for name, value in file.inputs.items():
        if name not in rules:
            document.problems.append(Problem(*spot, f"input {name} is unknown", f"known: {', '.join(rules) or 'none'}"))
        elif not (rule := rules[name]).takes(value):
            bounds = f"one of {', '.join(rule.enum)}" if rule.enum else f"what matches {rule.pattern}"
            document.problems.append(Problem(*spot, f"input {name} is out of its bounds", f"write {bounds}"))
    for name in rules.keys() - found.keys():
        document.problems.append(Problem(*spot, f"input {name} has no value", f"add `inputs: {{{name}: ...}}`"))
    return found
