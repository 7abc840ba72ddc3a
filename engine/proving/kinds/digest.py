"""Replays the kind `digest`: what the machine knows of the content of two steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from engine.domain.digest import of_bytes
from engine.domain.gate import DigestCheck, Facts, Sample
from engine.gates import digest
from engine.proving.kinds.port import Answer, Kind, no_probe

MALFORMED = "sha256:?"


class DigestAnswer(Answer):
    """Any word for the content of each step: equal words are equal contents. Without one none is known."""

    of: Annotated[str | None, Field(max_length=100)] = None
    equals: Annotated[str | None, Field(max_length=100)] = None


class Digest(Kind[DigestCheck, DigestAnswer]):
    """The machine's digests are told."""

    answer = DigestAnswer

    def measure(self, check: DigestCheck, facts: Facts, answer: DigestAnswer) -> Sample:
        """See `Kind`."""
        words = {check.of: answer.of, check.equals: answer.equals}
        known = {
            step: MALFORMED if word == MALFORMED else of_bytes(word.encode())
            for step, word in words.items()
            if word is not None
        }
        return digest.measure(check, replace(facts, digests=known), no_probe)

    def never(self, check: DigestCheck, good: DigestAnswer) -> Iterable[tuple[str, DigestAnswer]]:  # noqa: ARG002 - port
        """See `Kind`."""
        yield "nothing is known of the one", good.model_copy(update={"of": None})
        yield "nothing is known of the other", good.model_copy(update={"equals": None})
        yield "malformed digests", DigestAnswer(of=MALFORMED, equals=MALFORMED)

    def broken(self, check: DigestCheck) -> Iterator[tuple[str, DigestCheck]]:
        """A step is compared with itself."""
        yield f"equals: {check.of}", replace(check, equals=check.of)
        yield f"of: {check.equals}", replace(check, of=check.equals)
