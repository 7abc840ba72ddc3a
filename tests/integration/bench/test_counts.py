"""The benchmark measures what it says, and a boundary costs no more than it may. Counts only: seconds are its business.

DBOS is not here: only `scripts/setup.sh bench` installs it.
"""

from __future__ import annotations

import itertools
from collections import Counter as Tally
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bench import measuring, report
from bench.contenders import Contender, Ours, PerStep
from bench.counting import PLAIN
from engine.store import models
from engine.store.session import Database
from tests.services.postgres import Postgres

MOST = {
    PLAIN: 7,
    "a change begins: does its source still fire?": 8,
    "keeps an artefact, and a change begins": 9,
    "the first: takes the run up, its targets, reads its past": 10,
    "the last: gives the targets back, closes the incident": 12,
}
RUNS = 3


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A Postgres that counts its statements."""
    with Postgres.started(preload="pg_stat_statements") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def written(url: str) -> dict[str, int]:
    """How many rows of each kind the runs of a database left."""
    database = Database(url)
    rows = (models.Run, models.Attempt, models.GateVerdict, models.Event, models.Outbox, models.Artefact)
    with database.reading() as session:
        counted = {each.__tablename__: session.scalar(sa.select(sa.func.count()).select_from(each)) for each in rows}
        states = Tally(session.scalars(sa.select(models.Run.state)))
    database.close()
    assert set(states) == {"completed"}, states
    return {name: number or 0 for name, number in counted.items()}


def test_a_boundary_sends_no_more_than_it_may_and_commits_once(url: str) -> None:
    sample = Ours(url).carry(itertools.count(), RUNS, 2)
    boundaries = sample.counter.boundaries

    assert len(boundaries) == RUNS * 8
    assert {each.kind: len(each.statements) for each in boundaries if len(each.statements) > MOST[each.kind]} == {}
    assert {each.kind for each in boundaries} == set(MOST), "a kind is not told apart any more: mend bench/counting.py"


def test_work_between_boundaries_writes_nothing(url: str) -> None:
    sample = Ours(url).carry(itertools.count(), RUNS, 1)

    rest = [each.statements for each in sample.counter.committed if each.wrote and not each.is_boundary]
    assert [statements for statements in rest if not statements[0].startswith("UPDATE worker")] == []


def test_what_we_are_compared_with_writes_the_same_rows(postgres: Postgres) -> None:
    ours, theirs = postgres.new_database(), postgres.new_database()
    contenders: tuple[Contender, ...] = (Ours(ours), PerStep(theirs))
    for contender in contenders:
        contender.carry(itertools.count(), RUNS, 2)

    assert written(ours) == written(theirs)


def test_the_report_says_what_was_found(url: str, postgres: Postgres) -> None:
    others = () if url.startswith("sqlite") else (PerStep(postgres.new_database()),)
    place = measuring.Place("here", url, (Ours(url), *others))

    figures = measuring.measure((place,), 1, 2, lambda _text: None, {1: 1, 16: 2})
    page = report.write(figures, {"Commit": "abc"}, "A test.")

    assert "| here: a boundary without secrets or egress sends at most 7 statements | 7 | PASS |" in page
    assert "| alert accepted → first step begins |" in page
    assert ("Procrastinate, a job a step" in page.split("## Waits")[1]) is bool(others)
