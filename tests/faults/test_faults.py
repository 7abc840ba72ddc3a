"""Faults on real processes: nothing is lost, doubled or hung. Five in short; all of them: `make test-faults`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.faults import KINDS, Kind, Stage
from tests.faults.report import Row
from tests.services.postgres import Postgres

ROOT = Path(__file__).parents[2]
SEED = 3


def done(kind: Kind, times: int, postgres: Postgres, folder: Path) -> Row:
    """Do it so many times."""
    stage = Stage(postgres, folder, random.Random(f"{SEED} {kind}"))
    return Row(kind.name, tuple(kind.tries(stage, times)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.briefly], ids=str)
def test_a_fault_loses_doubles_and_hangs_nothing(kind: Kind, postgres: Postgres, tmp_path: Path) -> None:
    row = done(kind, kind.briefly, postgres, tmp_path)

    assert row.clean, row.findings


@pytest.fixture(scope="module")
def rows(postgres: Postgres) -> Iterator[list[Row]]:
    """What came of all of them, in order. Written down where `make test-faults` says, when none is missing."""
    found: list[Row] = []
    yield found
    path = os.environ.get(report.WRITTEN_TO)
    if path and len(found) == len(KINDS):
        report.write(ROOT / path, found, postgres)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_fault_many_times(kind: Kind, rows: list[Row], postgres: Postgres, tmp_path: Path) -> None:
    row = done(kind, kind.times, postgres, tmp_path)
    rows.append(row)
    print(row)  # noqa: T201 - whoever waits so long wants to see something

    assert row.clean, [found for found in row.findings if found.lost or found.doubled or found.hung]
