"""Replays the kind `pattern`: which cause the step named, and what the verifier found of its facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from engine.domain.gate import Diagnosis, Facts, Json, Parse, PatternCheck, Sample
from engine.domain.ports import ProbeAnswer
from engine.gates import parsing, pattern
from engine.proving.expression import broken
from engine.proving.kinds.port import Answer, Kind


class FactAnswer(Answer):
    """How the command of a fact ended."""

    exit: Annotated[int, Field(ge=0, le=255)] = 0
    stdout: Annotated[str, Field(max_length=2 * parsing.MAX_OUTPUT)] = ""
    unreachable: bool = False


class PatternAnswer(Answer):
    """The cause that the step named, and each fact of that diagnosis by its name."""

    cause: Annotated[str | None, Field(max_length=200)] = None
    facts: Annotated[dict[str, FactAnswer], Field(max_length=20)] = {}  # noqa: RUF012 - a field of pydantic, copied


class Pattern(Kind[PatternCheck, PatternAnswer]):
    """The claim and the probe are told."""

    answer = PatternAnswer

    def measure(self, check: PatternCheck, facts: Facts, answer: PatternAnswer) -> Sample:
        """See `Kind`."""
        known = next((one for one in check.known if one.cause == answer.cause), None)
        asked = iter(known.facts if known else ())  # a diagnosis asks for its facts in their order

        def probe(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:  # noqa: ARG001 - the port
            told = answer.facts.get(next(asked).name, FactAnswer(unreachable=True))
            if told.unreachable:
                return ProbeAnswer(ran=False, code=None, stdout="", stderr="", reason="no route to the target")
            return ProbeAnswer(ran=True, code=told.exit, stdout=told.stdout, stderr="")

        claim: dict[str, Json] = {} if answer.cause is None else {check.cause: answer.cause}
        return pattern.measure(check, replace(facts, claims={check.of: claim}), probe)

    def never(self, check: PatternCheck, good: PatternAnswer) -> Iterable[tuple[str, PatternAnswer]]:  # noqa: ARG002 - port
        """No cause, one that nobody knows, a fact that could not be had."""
        yield "no cause", good.model_copy(update={"cause": None})
        yield "a cause that nobody knows", good.model_copy(update={"cause": f"{good.cause}~"})
        for name, fact in good.facts.items():
            yield f"{name} could not be had", _with(good, name, FactAnswer(unreachable=True))
            yield f"{name} exits otherwise", _with(good, name, fact.model_copy(update={"exit": 254}))

    def broken(self, check: PatternCheck) -> Iterator[tuple[str, PatternCheck]]:
        """A diagnosis is forgotten, its condition is a little wrong, or a fact is read in another way."""
        for number, one in enumerate(check.known):
            before, after = check.known[:number], check.known[number + 1 :]
            yield f"causes: without {one.cause}", replace(check, known=(*before, *after))
            for what, other in _wrong(one):
                yield f"causes.{one.cause}.{what}", replace(check, known=(*before, other, *after))


def _with(good: PatternAnswer, name: str, fact: FactAnswer) -> PatternAnswer:
    return good.model_copy(update={"facts": {**good.facts, name: fact}})


def _wrong(one: Diagnosis) -> Iterator[tuple[str, Diagnosis]]:
    for expression in broken(one.expect):
        yield f"expect: {expression}", replace(one, expect=expression)
    for number, fact in enumerate(one.facts):
        code = (fact.code + 1) % 256
        others = [(f"code: {code}", replace(fact, code=code))]
        others += [(f"parse: {parse}", replace(fact, parse=parse)) for parse in Parse if parse is not fact.parse]
        for what, other in others:
            yield f"{fact.name}.{what}", replace(one, facts=(*one.facts[:number], other, *one.facts[number + 1 :]))
