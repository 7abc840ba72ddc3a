"""Gate kind `pattern`: a known diagnosis, measured again by the verifier. Called through `kinds()`.

What a step claims chooses which diagnosis is measured, and nothing else: its facts are commands of the verifier's.
"""

from __future__ import annotations

from engine.domain.gate import Check, Fact, Facts, Json, PatternCheck, Sample
from engine.domain.ports import Probe
from engine.domain.states import Verdict
from engine.gates import evidence
from engine.gates.condition import judge
from engine.gates.parsing import parse
from engine.gates.running import NotMeasured, Verifier


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
    """Measure the diagnosis of the claimed cause. A cause that nobody knows, or none at all, is INCONCLUSIVE."""
    if not isinstance(check, PatternCheck):
        return Sample(verdict=Verdict.ERROR, why="not a pattern check")
    claim = facts.claims.get(check.of)
    cause = claim.get(check.cause) if isinstance(claim, dict) else None
    if not isinstance(cause, str):
        why = f"step {check.of} names no cause in {check.cause}"
        return Sample(verdict=Verdict.INCONCLUSIVE, why=why, no_data=True)
    seen: dict[str, Json] = {"cause": evidence.text(cause, 200)}
    known = {diagnosis.cause: diagnosis for diagnosis in check.known}.get(cause)
    if known is None:
        why = f"{check.of} says {evidence.brief(cause)}, which is none of {', '.join(one.cause for one in check.known)}"
        return Sample(verdict=Verdict.INCONCLUSIVE, why=why, seen=seen)
    verifier = Verifier(target=check.target, facts=facts, probe=probe, timeout_s=check.timeout_s)
    variables: dict[str, Json] = {}
    for fact in known.facts:
        try:
            variables[fact.name] = _measured(fact, verifier, seen)
        except NotMeasured as instead:
            return Sample(verdict=instead.sample.verdict, why=f"{fact.name}: {instead.sample.why}", seen=seen)
    return judge(known.expect, variables, seen)


def _measured(fact: Fact, verifier: Verifier, seen: dict[str, Json]) -> Json:
    """The fact's value; raises NotMeasured. What the command gave is kept in `seen` either way."""
    try:
        ran = verifier.run(fact.run, fact.code)
    except NotMeasured as instead:
        seen[f"fact {fact.name}"] = instead.sample.seen
        raise
    seen[f"fact {fact.name}"] = ran.seen
    try:
        return parse(ran.stdout, fact.parse)
    except ValueError as error:
        raise NotMeasured(Verdict.ERROR, f"output of {ran.argv[0]}: {error}") from None
