"""Measuring one check of a gate: its control, then itself, with real waiting between samples. Called by `judging`.

Whatever goes wrong here is a verdict that opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.domain.gate import (
    INDEPENDENT,
    Check,
    CheckResult,
    Facts,
    Json,
    NoData,
    QuorumCheck,
    Sample,
    Sampling,
    definition,
)
from engine.domain.ports import Clock, GateKinds, Probe
from engine.domain.states import Verdict

WORST_FIRST = (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE)
LOOK_UP_S = 1.0
""" A wait looks up so often whether the run was stopped. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """What measuring needs, for all checks of one gate."""

    facts: Facts
    kinds: GateKinds
    probe: Probe
    clock: Clock
    stopped: Callable[[], bool]

    def check(self, check: Check) -> CheckResult:
        """Measure a check. Never raises; a stopped run is INCONCLUSIVE."""
        if isinstance(check, QuorumCheck):
            return self._quorum(check)
        sampling = getattr(check, "sampling", Sampling())
        samples = self._samples(check, sampling)
        last = samples[-1]
        held = len(samples) == sampling.count and all(sample.verdict is Verdict.HELD for sample in samples)
        return CheckResult(
            check_id=check.id,
            type=check.type,
            definition=definition(check),
            verdict=Verdict.HELD if held else last.verdict,
            why=last.why,
            samples=tuple(samples),
            independent=isinstance(check, INDEPENDENT),
        )

    def _samples(self, check: Check, sampling: Sampling) -> list[Sample]:
        """Up to the first that does not hold; at least one."""
        self._settle(check)
        samples: list[Sample] = []
        for number in range(sampling.count):
            if number:
                self._wait(sampling.every_s)
            if self.stopped():
                samples.append(Sample(verdict=Verdict.INCONCLUSIVE, why="the run was stopped while measuring"))
                break
            samples.append(self._sample(check))
            if samples[-1].verdict is not Verdict.HELD:
                break
        return samples or [Sample(verdict=Verdict.ERROR, why="not one sample was asked for")]

    def _settle(self, check: Check) -> None:
        """A check that looks over a time after the change begins when that time is over."""
        if self.facts.changed_at is not None and (for_s := getattr(check, "for_s", 0)):
            self._wait(for_s - (self.clock.now() - self.facts.changed_at).total_seconds())

    def _wait(self, seconds: float) -> None:
        while seconds > 0 and not self.stopped():
            self.clock.sleep(min(seconds, LOOK_UP_S))
            seconds -= LOOK_UP_S

    def _sample(self, check: Check) -> Sample:
        """One measurement by a probe that was just seen to see; a blind one says nothing, neither good nor bad."""
        control: Check | None = getattr(check, "control", None)
        if control is None:
            return self._measure(check)
        known = self._measure(control)
        if known.verdict is not Verdict.HELD:
            why = f"the control did not see what it must see: {known.why}"
            return Sample(verdict=Verdict.INCONCLUSIVE, why=why, seen={"control": known.seen})
        sample = self._measure(check)
        seen = sample.seen if isinstance(sample.seen, dict) else {"seen": sample.seen}
        return replace(sample, seen={**seen, "control": known.seen})

    def _measure(self, check: Check) -> Sample:
        try:
            sample = self.kinds[check.type](check, self.facts, self.probe)
        except Exception as error:  # noqa: BLE001  # the rim of a measurement: whatever breaks in it must not open the gate
            return Sample(verdict=Verdict.ERROR, why=f"{type(error).__name__}: {error}"[:500])
        if not sample.no_data:
            return sample
        failed = getattr(check, "no_data", NoData.INCONCLUSIVE) is NoData.FAIL
        return replace(sample, verdict=Verdict.FAILED if failed else Verdict.INCONCLUSIVE)

    def _quorum(self, quorum: QuorumCheck) -> CheckResult:
        """All members are measured. A claim never counts, and one question asked twice counts once."""
        found = [self.check(member) for member in quorum.checks]
        held = [
            _question(member)
            for member, result in zip(quorum.checks, found, strict=True)
            if result.verdict is Verdict.HELD and result.independent
        ]
        enough = 1 <= quorum.need <= len(set(held))
        verdicts = {result.verdict for result in found}
        worst = next((verdict for verdict in WORST_FIRST if verdict in verdicts), Verdict.ERROR)
        names = ", ".join(result.check_id for result in found if result.verdict is not Verdict.HELD)
        why = f"{len(set(held))} of {len(found)} held, {quorum.need} needed" + (f"; not {names}" if names else "")
        verdict = Verdict.HELD if enough else worst
        return CheckResult(
            check_id=quorum.id,
            type=quorum.type,
            definition=definition(quorum),
            verdict=verdict,
            why=why,
            samples=(Sample(verdict=verdict, why=why, seen={result.check_id: _told(result) for result in found}),),
            independent=enough,
        )


def _question(check: Check) -> str:
    """What a check asks, by whatever name."""
    return definition(replace(check, id=""))


def _told(result: CheckResult) -> Json:
    samples: list[Json] = [{"verdict": s.verdict.value, "why": s.why, "seen": s.seen} for s in result.samples]
    return {"type": result.type, "verdict": result.verdict.value, "why": result.why, "samples": samples}
