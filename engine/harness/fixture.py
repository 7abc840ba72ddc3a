"""The regression fixture of a harness note: what the gates of the incident measured, with the checks that judged it.

Called by `engine.harness.patch`; replayed by tests/regressions/test_replay.py. Evidence comes redacted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from engine.domain.errors import BadInput
from engine.domain.gate import Check, definition
from engine.domain.harness import NoteDraft
from engine.domain.incident import AttemptView, CheckView, IncidentView, RunView, VerdictView
from engine.domain.journey import Journey
from engine.harness.rule import plain

SCHEMA = "harness-note/v1"
MAX_BYTES = 256 * 1024
MAX_TEXT = 1000
FLAGGED = ("drifted", "skipped")
STEP_WORDS = ("followed", *FLAGGED)

_BY_HAND = "write the rule into agents.md by hand, with a test of your own"


def render(note: NoteDraft, incident: IncidentView, journey: Journey) -> str:
    """The fixture as JSON text, ASCII only, the same for the same input; raises BadInput when there is no evidence.

    Gates of the steps that drifted or were skipped are kept; of all steps when none of those was measured. What does
    not fit into MAX_BYTES is left out, and `left_out` says so.
    """
    for step, word in note.steps.items():
        if word not in STEP_WORDS:
            raise BadInput(f"step {step!r} cannot be {word!r}", "say followed, drifted or skipped")
    run = max(incident.runs, key=lambda run: run.started_at, default=None)
    if run is None or not run.verdicts:
        raise BadInput(f"no gate measured anything in INC-{incident.number}, so there is nothing to replay", _BY_HAND)
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "id": f"HN-{note.id}",
        "incident": f"INC-{incident.number}",
        "written_at": note.at.isoformat(),
        "runbook": run.runbook,
        "runbook_digest": run.runbook_digest,
        "inputs": dict(run.inputs),
        "steps": dict(note.steps),
        "what": plain(note.what, MAX_TEXT),
        "change": plain(note.change, MAX_TEXT),
        "rule": plain(note.rule, MAX_TEXT),
        "attempts": [],
        "verdicts": [],
        "left_out": [],
    }
    gates = {leg.id: (*leg.checks, *leg.shadow) for line in (journey.line, *journey.rollbacks) for leg in line}
    verdicts, attempts = _concerned(note, run)
    for verdict in verdicts:
        _add(value, "verdicts", _verdict(verdict, gates.get(verdict.leg, ())), f"verdict of {verdict.leg}")
    for attempt in attempts:
        _add(value, "attempts", _attempt(attempt), f"attempt of {attempt.leg}")
    if not value["verdicts"]:
        raise BadInput(f"what the gates of INC-{incident.number} measured is over {MAX_BYTES // 1024} KiB", _BY_HAND)
    if not any(check["check"] for verdict in value["verdicts"] for check in verdict["checks"]):
        raise BadInput(f"nobody knows any more how the gates of INC-{incident.number} were written", _BY_HAND)
    return _text(value)


def _concerned(note: NoteDraft, run: RunView) -> tuple[Sequence[VerdictView], Sequence[AttemptView]]:
    flagged = {step for step, word in note.steps.items() if word in FLAGGED}
    verdicts = [verdict for verdict in run.verdicts if {_step(verdict.leg), _step(verdict.of)} & flagged]
    measured = verdicts or list(run.verdicts)
    steps = flagged | {_step(verdict.of) for verdict in measured}
    return measured, [attempt for attempt in run.attempts if _step(attempt.leg) in steps]


def _step(leg: str) -> str:
    """The step that a leg came from: `staging:rollback-gate` measures `staging`."""
    return leg.partition(":")[0]


def _verdict(verdict: VerdictView, checks: Sequence[Check]) -> dict[str, Any]:
    written = {definition(check): check for check in checks}
    return {
        "leg": verdict.leg,
        "of": verdict.of,
        "verdict": verdict.verdict.value,
        "why": verdict.why,
        "begun_at": verdict.begun_at.isoformat(),
        "ended_at": verdict.ended_at.isoformat(),
        "checks": [_check(check, written.get(check.definition)) for check in verdict.checks],
    }


def _check(found: CheckView, check: Check | None) -> dict[str, Any]:
    """`check` is the definition as it was measured, known by its digest; null when nobody has it any more."""
    return {
        "id": found.check_id,
        "type": found.type,
        "definition": found.definition,
        "check": None if check is None else asdict(check),
        "verdict": found.verdict.value,
        "why": found.why,
        "independent": found.independent,
        "shadow": found.shadow,
        "samples": found.samples,
    }


def _attempt(attempt: AttemptView) -> dict[str, Any]:
    return {
        "leg": attempt.leg,
        "target": attempt.target,
        "state": attempt.state.value,
        "reason": attempt.reason,
        "output": attempt.output,
        "content_digest": attempt.content_digest,
    }


def _add(value: dict[str, Any], kind: str, item: dict[str, Any], what: str) -> None:
    value[kind].append(item)
    if len(_text(value)) > MAX_BYTES:
        value[kind].pop()
        value["left_out"].append(f"{what}: too large")


def _text(value: Mapping[str, Any]) -> str:
    """ASCII: no character of a stranger's text ends a line or hides in a review."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True) + "\n"
