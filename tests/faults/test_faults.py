"""Faults on real processes: nothing is lost, doubled or hung. Five in short; all of them: `make test-faults`."""

from __future__ import annotations

import os
import random
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


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_fault_many_times(postgres: Postgres, tmp_path: Path) -> None:
    rows = []
    for number, kind in enumerate(KINDS):
        folder = tmp_path / f"{number:02d}"
        folder.mkdir()
        rows.append(done(kind, kind.times, postgres, folder))
    if path := os.environ.get(report.WRITTEN_TO):
        report.write(ROOT / path, rows, postgres)

    assert all(row.clean for row in rows), [row for row in rows if not row.clean]
