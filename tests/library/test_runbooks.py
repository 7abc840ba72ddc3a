"""Each runbook of the library mends what it is for, on real targets; its bad variants stop before production."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from engine.domain.states import RunState
from tests.library import (
    ansible_drift,
    certificate_expiry,
    database_connections,
    disk_full,
    disk_full_agent,
    memory_leak,
    package_upgrade,
    service_down,
    service_down_agent,
)
from tests.library.case import Bad, Case
from tests.library.report import Row
from tests.library.telling import Told, tell

pytestmark = [pytest.mark.vm, pytest.mark.timeout(2400)]

QUICK = (service_down.CASE, memory_leak.CASE)
SLOW = (
    disk_full.CASE,
    ansible_drift.CASE,
    package_upgrade.CASE,
    certificate_expiry.CASE,
    database_connections.CASE,
    disk_full_agent.CASE,
    service_down_agent.CASE,
)


def cases() -> Iterator[ParameterSet]:
    """The good run of every runbook."""
    yield from (pytest.param(case, id=case.runbook) for case in QUICK)
    yield from (pytest.param(case, id=case.runbook, marks=pytest.mark.slow) for case in SLOW)


def variants() -> Iterator[ParameterSet]:
    """Every bad variant; the first of a quick runbook is quick."""
    for case in (*QUICK, *SLOW):
        for bad in case.bad:
            quick = case in QUICK and bad is case.bad[0]
            marks = () if quick else (pytest.mark.slow,)
            yield pytest.param(case, bad, id=f"{case.runbook}: {bad.name}", marks=marks)


def of(told: Told) -> str:
    """What to say when it ended otherwise."""
    asked = [f"{one.leg}: {one.why}" for one in told.run.escalations]
    ended = [f"{one.leg}: {one.state} {one.reason} {one.stderr[-300:]}" for one in told.run.attempts]
    judged = [f"{one.leg}: {one.verdict} {one.why}" for one in told.run.verdicts]
    return "\n".join([str(told.run.state), *asked, *ended, *judged])


@pytest.mark.parametrize("case", list(cases()))
def test_it_mends_what_it_is_for(case: Case, vm_images: Path, tmp_path: Path, rows: list[Row]) -> None:
    told = tell(case, tmp_path, vm_images)
    rows.append(Row(case=case, bad=None, told=told))

    assert told.run.state is RunState.COMPLETED, of(told)
    assert told.gone, of(told)
    assert not told.untouched, "production is as before: then what mended it?"


@pytest.mark.parametrize(("case", "bad"), list(variants()))
def test_a_bad_variant_stops_at_its_gate_and_production_is_untouched(
    case: Case, bad: Bad, vm_images: Path, tmp_path: Path, rows: list[Row]
) -> None:
    told = tell(case, tmp_path, vm_images, bad)
    rows.append(Row(case=case, bad=bad, told=told))

    assert told.run.state is RunState.HALTED, of(told)
    gate, failed = told.halted_at
    assert (gate, bad.check in failed) == (bad.gate, True), of(told)
    assert told.untouched, "production was changed"
    assert "operator" not in told.logins, "somebody who may change it logged in to production"
    assert not told.gone
