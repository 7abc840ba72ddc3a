"""The page about the library says what was seen, not what was hoped for."""

from __future__ import annotations

from datetime import UTC, datetime

from engine.domain.incident import CheckView, RunView, VerdictView
from engine.domain.states import RunState, Verdict
from tests.library import report, service_down
from tests.library.report import Row
from tests.library.telling import Told

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def _check(name: str, verdict: Verdict) -> CheckView:
    return CheckView(check_id=name, type="http", definition="", verdict=verdict, why="", samples=None, independent=True)


def _told(state: RunState, *, untouched: bool, verdicts: tuple[VerdictView, ...] = ()) -> Told:
    run = RunView(
        id="1",
        runbook="service-down",
        runbook_digest="",
        state=state,
        leg="",
        waits_for="",
        started_at=NOW,
        ended_at=NOW,
        inputs={},
        legs=(),
        attempts=(),
        verdicts=verdicts,
        approvals=(),
        escalations=(),
    )
    return Told(run=run, untouched=untouched, gone=not untouched, logins=frozenset(), took_s=101.4)


def test_each_run_is_a_row_with_its_gate_and_what_became_of_production() -> None:
    case = service_down.CASE
    verdict = VerdictView(
        id="1",
        leg="tests-pass",
        of="staging",
        verdict=Verdict.FAILED,
        why="",
        checks=(_check("answers", Verdict.FAILED), _check("config", Verdict.HELD)),
        begun_at=NOW,
        ended_at=NOW,
    )
    halted = _told(RunState.HALTED, untouched=True, verdicts=(verdict,))
    rows = [
        Row(case=case, bad=case.bad[0], told=halted),
        Row(case=case, bad=None, told=_told(RunState.COMPLETED, untouched=False)),
    ]

    good, bad = report.table(rows).splitlines()[-2:]

    start = "| service-down | a configuration with no workers: the service ends at its start | 9 | 4 | 101 s |"
    assert good.startswith(f"{start} completed | no | ")
    assert "| halted at tests-pass (answers) | yes | " in bad
    killed, _, all_of_them = bad.split(" | ")[-1].removesuffix(" |").partition(" of ")
    assert killed == all_of_them
