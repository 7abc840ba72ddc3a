"""Gate kind `digest`: what was tested is what is applied. Called through `kinds()`.

It reads the machine's own content digests only; a step's output (a claim) has no way into that namespace.
"""

from __future__ import annotations

import re

from engine.domain.gate import Check, DigestCheck, Facts, Json, Sample
from engine.domain.ports import Probe
from engine.domain.states import Verdict

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:  # noqa: ARG001 - the port has it
    """Compare the content digests of two steps. One that is not known is INCONCLUSIVE, different ones are FAILED."""
    if not isinstance(check, DigestCheck):
        return Sample(verdict=Verdict.ERROR, why="not a digest check")
    pair = (check.of, check.equals)
    seen: Json = {step: facts.digests.get(step) for step in pair}
    for step in pair:
        digest = facts.digests.get(step)
        if digest is None:
            return Sample(verdict=Verdict.INCONCLUSIVE, why=f"no content digest of {step} is known", seen=seen)
        if not _DIGEST.fullmatch(digest):
            return Sample(verdict=Verdict.ERROR, why=f"the content digest of {step} is malformed", seen=seen)
    if facts.digests[check.of] != facts.digests[check.equals]:
        why = f"what {check.of} applies is not what {check.equals} applied"
        return Sample(verdict=Verdict.FAILED, why=why, seen=seen)
    return Sample(verdict=Verdict.HELD, why=f"{check.of} applies exactly what {check.equals} applied", seen=seen)
