"""Judges a gate offline: its checks are told examples instead of asking. Called by `proof`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from engine.coordination import judging
from engine.domain.gate import Check, Facts, GateResult, Sample
from engine.domain.journey import Leg
from engine.domain.ports import Probe
from engine.domain.runbook import Runbook
from engine.domain.states import Verdict
from engine.proving.kinds import KINDS, Answer
from engine.proving.kinds.port import no_probe


class StoppedClock:
    """Samples are not waited for: what they say is written down."""

    def now(self) -> datetime:
        """Always the same moment."""
        return datetime(2026, 1, 1, tzinfo=UTC)

    def sleep(self, seconds: float) -> None:
        """At once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A gate's checks, each with what it is told; `about` is the check that the case is about.

    `verdict`: what the gate must find; None is anything but held.
    """

    about: str
    what: str
    told: Mapping[str, tuple[Answer, ...]]
    verdict: Verdict | None

    def noticed_by(self, found: Verdict) -> bool:
        """Whether a gate that found this does what the case demands."""
        return found is not Verdict.HELD if self.verdict is None else found is self.verdict


@dataclass(slots=True)
class _Told:
    """A kind that answers from the case; of a weak one, too little seen is enough."""

    told: Mapping[str, tuple[Answer, ...]]
    weak: str
    asked: Counter[str] = field(default_factory=Counter)

    def measure(self, check: Check, facts: Facts, probe: Probe) -> Sample:  # noqa: ARG002 - the port has it
        answers = self.told[check.id]
        answer = answers[min(self.asked[check.id], len(answers) - 1)]
        self.asked[check.id] += 1
        sample: Sample = KINDS[check.type].measure(check, facts, answer)
        if check.id == self.weak and sample.verdict in {Verdict.INCONCLUSIVE, Verdict.ERROR}:
            return replace(sample, verdict=Verdict.HELD)
        return sample


def facts_of(runbook: Runbook, inputs: Mapping[str, str]) -> Facts:
    """What checks may refer to, but for what a case tells them."""
    hosts = {name: target.host for name, target in runbook.targets.items()}
    return Facts(inputs=inputs, claims={}, digests={}, hosts=hosts)


def judge(gate: Leg, case: Case, facts: Facts, weak: str = "") -> GateResult:
    """What the gate finds. `weak`: the id of a check for which no verdict counts as held, as if no data were enough."""
    measure = _Told(case.told, weak).measure
    kinds = dict.fromkeys(KINDS, measure)
    return judging.judge(gate, facts, kinds, no_probe, StoppedClock(), lambda: False, lambda text: text)
