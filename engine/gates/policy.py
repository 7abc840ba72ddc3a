"""Gate kind `policy`: rules over JSON that a step made: its output, or a file of its artefact. Called by `kinds()`.

Denied by default: every rule must be exactly true; one that is undefined or breaks is an error. Never independent.
"""

from __future__ import annotations

from engine.domain import archive
from engine.domain.errors import BadInput
from engine.domain.gate import Check, Facts, Json, PolicyCheck, Sample
from engine.domain.ports import Probe
from engine.domain.states import Verdict
from engine.gates import evidence
from engine.gates.condition import evaluate
from engine.gates.parsing import strict_json

MAX_DOCUMENT = 256 * 1024


class _Absent(Exception):
    """There is no document; the message says why."""


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:  # noqa: ARG001 - the port has it
    """Judge the document by every rule. None, or an empty one, is INCONCLUSIVE; one that is no JSON ERROR."""
    if not isinstance(check, PolicyCheck):
        return Sample(verdict=Verdict.ERROR, why="not a policy check")
    try:
        document = _document(check, facts)
    except _Absent as absent:
        return Sample(verdict=Verdict.INCONCLUSIVE, why=str(absent), no_data=True)
    except (BadInput, ValueError) as error:
        return Sample(verdict=Verdict.ERROR, why=f"{check.file or 'the output'} of {check.of}: {error}"[:500])
    return _judge(check, document)


def _document(check: PolicyCheck, facts: Facts) -> Json:
    """Raises _Absent, and BadInput or ValueError for what cannot be read."""
    if check.file is None:
        if facts.claims.get(check.of) in (None, {}, [], ""):
            raise _Absent(f"step {check.of} printed no output")
        return facts.claims[check.of]
    if check.of not in facts.artefacts:
        raise _Absent(f"there is no artefact of {check.of}")
    content = archive.unpack(facts.artefacts[check.of]).get(check.file)
    if content is None:
        raise _Absent(f"the artefact of {check.of} has no file {check.file}")
    if len(content) > MAX_DOCUMENT:
        raise ValueError(f"more than {MAX_DOCUMENT // 1024} KiB")
    document = strict_json(content.decode())
    if document in (None, {}, [], ""):
        raise _Absent(f"{check.file} of {check.of} is empty")
    return document


def _judge(check: PolicyCheck, document: Json) -> Sample:
    broken: list[tuple[Verdict, str]] = []
    for rule in check.rules:
        try:
            if not evaluate(rule.expect, {"doc": document}):
                broken.append((Verdict.FAILED, f"{rule.id} is broken: not {rule.expect}"))
        except ValueError as error:
            broken.append((Verdict.ERROR, f"{rule.id} does not answer: {rule.expect}: {error}"))
    seen: Json = {"doc": evidence.bounded(document), "rules": [rule.id for rule in check.rules]}
    if not check.rules:
        return Sample(verdict=Verdict.ERROR, why="there is no rule that would allow it", seen=seen)
    if broken:
        verdict = Verdict.FAILED if any(found is Verdict.FAILED for found, _ in broken) else Verdict.ERROR
        return Sample(verdict=verdict, why="; ".join(why for _, why in broken)[:500], seen=seen)
    return Sample(verdict=Verdict.HELD, why=f"all {len(check.rules)} rules are kept", seen=seen)
