"""What a kind of gate gives so that it can be replayed. One file a kind beside this one; `KINDS` of the package joins.

A kind is replayed by its real code: only the outermost thing that it asks (the probe, the GET, the facts) is answered
from a record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from engine.domain.gate import Check, Facts, Json, Sample
from engine.domain.ports import ProbeAnswer
from engine.runbooks.scalars import Edge


class Answer(Edge):
    """What a check's source said once. The fields are the kind's own; `verdict` and `then` are not for them."""


A = TypeVar("A", bound=Answer)
C = TypeVar("C", bound=Check)


class Kind(ABC, Generic[C, A]):
    """How checks of one type are replayed, and broken."""

    answer: type[A]

    @abstractmethod
    def measure(self, check: C, facts: Facts, answer: A) -> Sample:
        """Measure by the real kind, which is told `answer` instead of what it would ask."""

    @abstractmethod
    def never(self, check: C, good: A) -> Iterable[tuple[str, A]]:
        """What must not hold whatever the runbook says, in words and as an answer: no data, too old, malformed.

        `good`: an answer that holds, to be spoilt.
        """

    def variables(self, check: C, good: A) -> Mapping[str, Json]:  # noqa: ARG002 - for those who have some
        """What the condition is told of this answer; empty for a kind whose condition is no CEL."""
        return {}

    def broken(self, check: C) -> Iterator[tuple[str, C]]:  # noqa: ARG002 - as above
        """The check with one of its own fields wrong, and in words which. Conditions and sampling are not its care."""
        yield from ()


def no_probe(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:  # noqa: ARG001 - as above
    """For kinds that run nothing."""
    return ProbeAnswer(ran=False, code=None, stdout="", stderr="", reason="nothing is run in a replay")
