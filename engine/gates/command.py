"""Gate kind `command`: a command on the target, run by the verifier in a VM of its own. Called through `kinds()`."""

from __future__ import annotations

from engine.domain.errors import BadInput, SignalboxError
from engine.domain.gate import Check, CommandCheck, Facts, Json, Sample
from engine.domain.ports import Probe, ProbeAnswer
from engine.domain.states import Verdict
from engine.gates import evidence
from engine.gates.condition import judge
from engine.gates.filling import fill
from engine.gates.parsing import parse


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
    """Run it once. Not run is INCONCLUSIVE, a wrong exit code FAILED, output that does not parse ERROR."""
    if not isinstance(check, CommandCheck):
        return Sample(verdict=Verdict.ERROR, why="not a command check")
    try:
        argv = tuple(fill(word, check.target, facts) for word in check.run)
    except BadInput as error:
        return Sample(verdict=Verdict.ERROR, why=str(error))
    try:
        answer = probe(check.target, argv, check.timeout_s)
    except SignalboxError as error:
        return Sample(verdict=Verdict.INCONCLUSIVE, why=f"the verifier could not run {argv[0]}: {error}")
    return _judge(check, argv, answer)


def _judge(check: CommandCheck, argv: tuple[str, ...], answer: ProbeAnswer) -> Sample:
    seen: Json = {
        "run": [evidence.text(word) for word in argv],
        "code": answer.code,
        "stdout": evidence.text(answer.stdout),
        "stderr": evidence.text(answer.stderr),
    }
    if not answer.ran or answer.code is None:
        why = f"the verifier could not run {argv[0]}: {answer.reason or 'no exit code'}"
        return Sample(verdict=Verdict.INCONCLUSIVE, why=why, seen=seen)
    if answer.code != check.code:
        return Sample(verdict=Verdict.FAILED, why=f"{argv[0]} exited {answer.code}, not {check.code}", seen=seen)
    try:
        out = parse(answer.stdout, check.parse)
    except ValueError as error:
        return Sample(verdict=Verdict.ERROR, why=f"output of {argv[0]}: {error}", seen=seen)
    return judge(check.expect, {"out": out, "code": answer.code}, seen)
