"""Judging a gate: every check measured, and one verdict from what they found.

No transaction and no state here: `engine.orchestration.driver` calls `judge` between two boundaries, `record` writes
what came of it inside the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from engine.coordination import machine
from engine.coordination.escalation import halt
from engine.coordination.measuring import WORST_FIRST, Measuring
from engine.domain.gate import CheckResult, Facts, GateResult, Json
from engine.domain.incident import Topic
from engine.domain.journey import Journey, Leg
from engine.domain.ports import Clock, GateKinds, Probe
from engine.domain.records import said
from engine.domain.runbook import Snapshot
from engine.domain.states import EVENT_OF_VERDICT, RunEvent, Verdict
from engine.store import chain, evidence, models, outbox, runs
from engine.store.ids import new_id
from engine.store.session import Session


def judge(
    leg: Leg,
    facts: Facts,
    kinds: GateKinds,
    probe: Probe,
    clock: Clock,
    stopped: Callable[[], bool],
    redact: Callable[[str], str],
) -> GateResult:
    """Measure every check of a gate. One that raises is an error; a stopped run is inconclusive. Only held opens."""
    begun = clock.now()
    facts = replace(facts, begun_at=facts.begun_at or begun)
    measuring = Measuring(facts=facts, kinds=kinds, probe=probe, clock=clock, stopped=stopped)
    found = [measuring.check(check) for check in leg.checks]
    found += [replace(measuring.check(check), shadow=True) for check in leg.shadow]
    results = tuple(_redacted(result, redact) for result in found)
    verdict, why = combine(results)
    return GateResult(verdict=verdict, why=why, checks=results, begun_at=begun, ended_at=clock.now())


def _redacted(result: CheckResult, redact: Callable[[str], str]) -> CheckResult:
    """Evidence is redacted before anybody keeps it."""
    samples = tuple(replace(s, why=redact(s.why), seen=_masked(s.seen, redact)) for s in result.samples)
    return replace(result, why=redact(result.why), samples=samples)


def _masked(value: Json, redact: Callable[[str], str]) -> Json:
    match value:
        case str():
            return redact(value)
        case list():
            return [_masked(item, redact) for item in value]
        case dict():
            return {redact(key): _masked(item, redact) for key, item in value.items()}
        case _:
            return value


def combine(results: tuple[CheckResult, ...]) -> tuple[Verdict, str]:
    """All checks must hold, and one of them must be independent of the step; otherwise the worst verdict counts.

    What is in shadow is mentioned and counts neither way.
    """
    counted = tuple(result for result in results if not result.shadow)
    aside = "".join(f"; in shadow, {_said(result)}" for result in results if result.shadow)
    for verdict in WORST_FIRST:
        found = [result for result in counted if result.verdict is verdict]
        if found:
            return verdict, ("; ".join(f"{result.check_id}: {result.why}" for result in found) + aside)[:1000]
    if not any(result.independent for result in counted):
        return Verdict.ERROR, "no independent check measured anything: a step would certify itself"
    return Verdict.HELD, f"all {len(counted)} checks held{aside}"[:1000]


def _said(result: CheckResult) -> str:
    return f"{result.check_id} {result.verdict}: {result.why}"


def record(
    session: Session,
    run: models.Run,
    leg: Leg,
    result: GateResult,
    snapshot: Snapshot,
    journey: Journey,
    now: datetime,
    *,
    still_ours: bool,
) -> None:
    """Write what a gate found and move the run.

    Not `still_ours`: the run moved on, or another worker measures it: what was found is kept as evidence only.
    """
    row = models.GateVerdict(
        id=new_id(),
        run_id=run.id,
        leg=leg.id,
        of=leg.of or "",
        verdict=result.verdict,
        why=result.why,
        checks=[_check_row(check) for check in result.checks],
        begun_at=result.begun_at,
        ended_at=result.ended_at,
        late=not still_ours,
    )
    runs.add_verdict(session, row)
    detail = said(evidence.verdict(row))
    outbox.tell(
        session,
        Topic.GATE_REPORTED,
        run.incident_number,
        row.id,
        f"verdict:{row.id}",
        outbox.REPORTS,
        now,
    )
    if not still_ours:
        chain.append(
            session,
            number=run.incident_number,
            run_id=run.id,
            at=now,
            kind="late_verdict_kept",
            actor=machine.MACHINE,
            text=f"{leg.id} was measured ({result.verdict}) after the run had moved on: evidence only.",
            detail=detail,
        )
        return
    event = EVENT_OF_VERDICT[result.verdict]
    if event is RunEvent.GATE_HELD:
        following = journey.after(leg.id).id
        machine.move(
            session,
            run,
            event,
            now,
            text=f"{leg.id} held: {result.why}.",
            leg=following,
            detail=detail,
        )
        return
    halt(
        session,
        run,
        event,
        now,
        journey=journey,
        runbook=snapshot.runbook,
        detail=detail,
        why=f"The gate {leg.id} did not hold ({result.verdict}): {result.why}",
        remedy="Retry measures again." if event is not RunEvent.GATE_FAILED else "Retry tries the step again.",
    )


def _check_row(check: CheckResult) -> dict[str, object]:
    return {
        "check_id": check.check_id,
        "type": check.type,
        "definition": check.definition,
        "verdict": check.verdict.value,
        "why": check.why,
        "independent": check.independent,
        "shadow": check.shadow,
        "samples": [{"verdict": s.verdict.value, "why": s.why, "seen": s.seen} for s in check.samples],
    }
