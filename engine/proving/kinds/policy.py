"""Replays the kind `policy`: the document that a step made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from engine.domain import archive
from engine.domain.gate import Facts, PolicyCheck, Sample
from engine.gates import policy
from engine.proving.expression import broken
from engine.proving.kinds.port import Answer, Kind, no_probe


class PolicyAnswer(Answer):
    """The document; without one there is none. `text`: what stands there instead of JSON, where it is a file."""

    doc: Any = None
    text: str | None = None


class Policy(Kind[PolicyCheck, PolicyAnswer]):
    """The claim, or the artefact, is told."""

    answer = PolicyAnswer

    def measure(self, check: PolicyCheck, facts: Facts, answer: PolicyAnswer) -> Sample:
        """See `Kind`."""
        if check.file is None:
            claims = {} if answer.doc is None else {check.of: answer.doc}
            return policy.measure(check, replace(facts, claims=claims), no_probe)
        there = answer.doc is not None or answer.text is not None
        text = json.dumps(answer.doc) if answer.text is None else answer.text
        artefacts = {check.of: archive.pack({check.file: text.encode()})} if there else {}
        return policy.measure(check, replace(facts, artefacts=artefacts), no_probe)

    def never(self, check: PolicyCheck, good: PolicyAnswer) -> Iterable[tuple[str, PolicyAnswer]]:
        """No document, an empty one, one of another shape, one that is no JSON."""
        yield "no document", PolicyAnswer()
        yield "an empty document", PolicyAnswer(doc={})
        yield "a document of another shape", PolicyAnswer(doc={"~": good.doc})
        if check.file is not None:
            yield "no JSON", PolicyAnswer(text="{")
            yield "a key twice", PolicyAnswer(text='{"~": 1, "~": 2}')

    def broken(self, check: PolicyCheck) -> Iterator[tuple[str, PolicyCheck]]:
        """A rule is forgotten, or a little wrong."""
        for number, rule in enumerate(check.rules):
            before, after = check.rules[:number], check.rules[number + 1 :]
            yield f"rules: without {rule.id}", replace(check, rules=(*before, *after))
            for expression in broken(rule.expect):
                other = replace(rule, expect=expression)
                yield f"{rule.id}.expect: {expression}", replace(check, rules=(*before, other, *after))
