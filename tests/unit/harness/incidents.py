"""An incident with recorded evidence, made up after a disk that filled up for another reason than was said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.domain.alert import Severity
from engine.domain.gate import Check, CommandCheck, ExprCheck, HttpCheck, Json, Parse, definition
from engine.domain.harness import NoteDraft
from engine.domain.incident import AttemptView, CheckView, IncidentView, Person, RunView, VerdictView
from engine.domain.journey import Journey, Leg, LegKind
from engine.domain.runbook import GateStep
from engine.domain.states import AttemptState, IncidentState, RunState, Verdict

BEGUN = datetime(2026, 3, 1, 10, 16, tzinfo=UTC)

DF = CommandCheck(
    id="disk-is-full",
    target="production",
    run=("df", "--output=pcent", "{{ inputs.mount }}"),
    parse=Parse.PERCENT,
    expect="out > 90.0",
)
CAUSE = ExprCheck(id="cause-is-known", of="diagnose", expect="out.cause == 'log_growth'")
UP = HttpCheck(id="answers", target="staging", path="/health", expect="status == 200")


def journey(**gates: tuple[Check, ...]) -> Journey:
    """The gates of a runbook; `_` in a name stands for `-`."""
    legs = []
    for name, checks in gates.items():
        step = GateStep(id=name.replace("_", "-"), of="x", checks=checks, fresh_for_s=60)
        legs.append(Leg(id=step.id, kind=LegKind.GATE, step=step, of=step.of, checks=checks))
    return Journey(line=tuple(legs), rollbacks=())


JOURNEY = journey(diagnosis_gate=(DF, CAUSE), staging_gate=(UP,))


def found(check: Check, seen: Json, verdict: Verdict = Verdict.HELD) -> CheckView:
    return CheckView(
        check_id=check.id,
        type=check.type,
        definition=definition(check),
        verdict=verdict,
        why="as measured",
        samples=[{"verdict": verdict.value, "why": "as measured", "seen": seen}],
        independent=not isinstance(check, ExprCheck),
    )


def verdict(leg: str, of: str, *checks: CheckView, after_s: int = 0) -> VerdictView:
    begun = BEGUN + timedelta(seconds=after_s)
    return VerdictView(
        id=f"verdict-{leg}",
        leg=leg,
        of=of,
        verdict=Verdict.HELD,
        why=f"all {len(checks)} checks held",
        checks=checks,
        begun_at=begun,
        ended_at=begun + timedelta(seconds=5),
    )


def attempt(leg: str, output: Json) -> AttemptView:
    return AttemptView(
        id=f"attempt-{leg}",
        leg=leg,
        target="production",
        state=AttemptState.FINISHED,
        started_at=BEGUN,
        ended_at=BEGUN,
        reason="",
        stdout="",
        stderr="",
        output=output,
        content_digest="sha256:" + "0" * 64,
        artefact_digest=None,
        connections=[],
    )


def run(**changes: Any) -> RunView:
    df: Json = {"run": ["df"], "code": 0, "stdout": "Use%\n 93%\n", "stderr": ""}
    fields: dict[str, Any] = {
        "id": "run-1",
        "runbook": "disk-full",
        "runbook_digest": "sha256:" + "1" * 64,
        "state": RunState.COMPLETED,
        "leg": "close",
        "waits_for": "",
        "started_at": BEGUN,
        "ended_at": BEGUN + timedelta(minutes=5),
        "inputs": {"mount": "/srv/checkout"},
        "legs": (),
        "attempts": (attempt("diagnose", {"cause": "log_growth"}), attempt("staging:rehearse", {"freed_mb": 1})),
        "verdicts": (
            verdict("diagnosis-gate", "diagnose", found(DF, df), found(CAUSE, {"out": {"cause": "log_growth"}})),
            verdict("staging-gate", "staging", found(UP, {"status": 200, "ms": 9, "body": "ok"}), after_s=60),
        ),
        "approvals": (),
        "escalations": (),
    }
    return RunView(**(fields | changes))


def incident(*runs: RunView, number: int = 42) -> IncidentView:
    return IncidentView(
        id="incident-42",
        number=number,
        title="/srv/checkout is full",
        severity=Severity.CRITICAL,
        state=IncidentState.CLOSED,
        opened_at=BEGUN,
        closed_at=BEGUN + timedelta(minutes=10),
        opened_by="alertmanager",
        choose_token=None,
        runbooks=("disk-full",),
        alerts=(),
        runs=runs,
        events=(),
        notes=(),
    )


def note(**changes: Any) -> NoteDraft:
    fields: dict[str, Any] = {
        "id": 7,
        "by": Person(id="U123", name="Ada"),
        "at": datetime(2026, 3, 1, 11, 0, tzinfo=UTC),
        "steps": {"diagnose": "drifted", "staging": "followed"},
        "what": "It blamed the logs; in truth java held a deleted file open.",
        "change": "Compare df with du before a cause is named.",
        "rule": "Before naming log_growth, compare df with du; if they differ, look for deleted open files first.",
    }
    return NoteDraft(**(fields | changes))


AGENTS = """# A map

- a rule for people

<!-- harness rules -->
- HN-3: Older rule. (incident INC-7, review by 2026-04-01, test tests/regressions/hn-3.json)
<!-- end of harness rules -->

The end.
"""
