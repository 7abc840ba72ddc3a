"""Judges recorded samples again, by the code of the gates as it is now. Used by test_replay.py.

Only what was really measured can be replayed: a sample that saw nothing (no VM, no answer) or whose evidence was cut
is taken as it is, and may then be anything but held.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from engine.coordination.judging import combine
from engine.domain.digest import of_value
from engine.domain.gate import (
    Check,
    CheckResult,
    CommandCheck,
    DigestCheck,
    ExprCheck,
    Facts,
    HttpCheck,
    Json,
    NoData,
    Parse,
    PromqlCheck,
    Sample,
    Sampling,
    definition,
)
from engine.domain.ports import ProbeAnswer
from engine.domain.states import Verdict
from engine.gates import command, condition, digest, expr
from engine.gates.evidence import MAX_TEXT

KINDS: dict[str, type[Check]] = {
    "command": CommandCheck,
    "http": HttpCheck,
    "promql": PromqlCheck,
    "digest": DigestCheck,
    "expr": ExprCheck,
}


def problems(fixture: dict[str, Any]) -> list[str]:
    """What a replay finds different from what was recorded; empty when all is as it was."""
    found: list[str] = []
    for verdict in fixture["verdicts"]:
        results = tuple(_result(check, fixture["inputs"], found) for check in verdict["checks"])
        now, _ = combine(results)
        if now != verdict["verdict"]:
            found.append(f"{verdict['leg']}: was {verdict['verdict']}, is {now}")
    return found


def replayed(fixture: dict[str, Any]) -> int:
    """How many samples were judged again, not only taken as they are."""
    return sum(
        _replayable(check, sample)
        for verdict in fixture["verdicts"]
        for check in verdict["checks"]
        for sample in check["samples"]
    )


def check_of(fields: dict[str, Any]) -> Check | None:
    """The check as the runbook had it; None for a kind whose samples are taken as they are."""
    if fields["type"] not in KINDS:
        return None
    values = dict(fields)
    if values.get("control") is not None:
        values["control"] = check_of(values["control"])
    if "no_data" in values:
        values["no_data"] = NoData(values["no_data"])
    if "sampling" in values:
        values["sampling"] = Sampling(**values["sampling"])
    if "run" in values:
        values |= {"run": tuple(values["run"]), "parse": Parse(values["parse"])}
    return KINDS[values["type"]](**values)


def _result(record: dict[str, Any], inputs: dict[str, str], found: list[str]) -> CheckResult:
    where = record["id"]
    check = None if record["check"] is None else check_of(record["check"])
    fields = record["check"] or {}
    if fields and (of_value(fields) if check is None else definition(check)) != record["definition"]:
        found.append(f"{where}: the definition is not the one that was measured")
    samples = tuple(_sample(check, sample, inputs, f"{where}, sample {n}", found)
                    for n, sample in enumerate(record["samples"], start=1))  # fmt: skip
    wanted = fields.get("sampling", {"count": 1})["count"]
    held = len(samples) >= wanted and all(sample.verdict is Verdict.HELD for sample in samples)
    verdict = Verdict.HELD if held else samples[-1].verdict if samples else Verdict.INCONCLUSIVE
    if verdict != record["verdict"]:
        found.append(f"{where}: was {record['verdict']}, is {verdict}")
    return CheckResult(
        check_id=record["id"],
        type=record["type"],
        definition=record["definition"],
        verdict=verdict,
        why=record["why"],
        samples=samples,
        independent=record["independent"],
        shadow=record.get("shadow", False),
    )


def _replayable(record: dict[str, Any], sample: dict[str, Any]) -> bool:
    seen = sample["seen"]
    needed = {"command": "stdout", "http": "body", "promql": "series", "expr": "out"}.get(record["type"])
    known = record["check"] is not None and record["type"] in KINDS
    if not known or not isinstance(seen, dict) or (needed is not None and needed not in seen):
        return False
    if record["type"] == "command" and seen["code"] is None:
        return False
    return not any(isinstance(value, str) and len(value) > MAX_TEXT for value in seen.values())


def _sample(
    check: Check | None, record: dict[str, Any], inputs: dict[str, str], where: str, found: list[str]
) -> Sample:
    was = Sample(verdict=Verdict(record["verdict"]), why=record["why"], seen=record["seen"])
    if check is None or not _replayable({"check": check, "type": check.type}, record):
        if check is not None and record["seen"] is None and was.verdict is Verdict.HELD:
            found.append(f"{where}: held, but saw nothing")
        return was
    now = measure(check, record["seen"], inputs)
    if now.verdict is not was.verdict:
        found.append(f"{where}: was {was.verdict}, is {now.verdict} ({now.why})")
    return now


def measure(check: Check, seen: dict[str, Any], inputs: dict[str, str]) -> Sample:
    """Judge one recorded sample as the gate kind would have."""
    match check:
        case CommandCheck():
            facts = Facts(inputs=inputs, claims={}, digests={}, hosts={check.target: "recorded"})
            answer = ProbeAnswer(ran=True, code=seen["code"], stdout=seen["stdout"], stderr=seen["stderr"])
            return command.measure(check, facts, lambda _target, _argv, _timeout_s: answer)
        case HttpCheck():
            variables: dict[str, Json] = {name: seen[name] for name in ("status", "ms", "body")}
            return condition.judge(check.expect, variables | {"json": _json(seen["body"])}, seen)
        case PromqlCheck():
            numbers: list[Json] = [float(series["value"][1]) for series in seen["series"]]
            if not numbers:
                return Sample(verdict=Verdict.INCONCLUSIVE, why="no series", seen=seen)
            return condition.judge(check.expect, {"result": numbers, "before": seen.get("before", [])}, seen)
        case ExprCheck():
            return expr.measure(check, Facts(inputs=inputs, claims={check.of: seen["out"]}, digests={}), _no_probe)
        case DigestCheck():
            known = {step: value for step, value in seen.items() if value is not None}
            return digest.measure(check, Facts(inputs=inputs, claims={}, digests=known), _no_probe)
        case _:
            raise AssertionError(f"samples of {check.type} are taken as they are")


def _json(body: str) -> Json:
    try:
        value: Json = json.loads(body)
    except ValueError:
        return None
    return value


def _no_probe(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
    raise AssertionError("this kind runs no command")


def fields_of(check: Check) -> dict[str, Any]:
    """A check as a fixture writes it."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(check)))
    return fields
