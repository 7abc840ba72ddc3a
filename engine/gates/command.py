"""Gate kind `command`: a command on the target, run by the verifier in a VM of its own. Called through `kinds()`."""

from __future__ import annotations

from engine.domain.gate import Check, CommandCheck, Facts, Sample
from engine.domain.ports import Probe
from engine.domain.states import Verdict
from engine.gates.condition import judge
from engine.gates.parsing import parse
from engine.gates.running import NotMeasured, Verifier


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
    """Run it once. Not run is INCONCLUSIVE, a wrong exit code FAILED, output that does not parse ERROR."""
    if not isinstance(check, CommandCheck):
        return Sample(verdict=Verdict.ERROR, why="not a command check")
    verifier = Verifier(target=check.target, facts=facts, probe=probe, timeout_s=check.timeout_s)
    try:
        ran = verifier.run(check.run, check.code)
    except NotMeasured as instead:
        return instead.sample
    try:
        out = parse(ran.stdout, check.parse)
    except ValueError as error:
        return Sample(verdict=Verdict.ERROR, why=f"output of {ran.argv[0]}: {error}", seen=ran.seen)
    return judge(check.expect, {"out": out, "code": ran.code}, ran.seen)
