"""What a simulation plays in memory is what happens on a Postgres server: the same choices lead to the same places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from engine.coordination import boundary
from engine.domain.ports import Ending
from engine.domain.runbook import Snapshot
from engine.domain.states import Decision, RunState, Verdict
from engine.simulation.outside import Will
from engine.simulation.stage import Stage
from engine.store import migrate
from engine.store.memory import memory
from engine.store.session import Database
from tests.integration.engine.conftest import postgres
from tests.integration.simulation.short import INPUTS, short, toy
from tests.services.postgres import Postgres

__all__ = ["postgres"]

Act = Callable[[Stage], object]


def drive(will: Will | None = None) -> Act:
    return lambda stage: stage.drive(will or Will())


def decide(decision: Decision) -> Act:
    return lambda stage: stage.decide(decision)


def approve(stage: Stage) -> None:
    stage.approve(yes=True)


ON = [drive()]
TO_PRODUCTION = 8 * ON
WELL: Sequence[Act] = [*TO_PRODUCTION, *ON, approve, *ON, *ON, *ON]
UNKNOWN_AND_ROLLED_BACK: Sequence[Act] = [
    *TO_PRODUCTION, *ON, approve, drive(Will(ending=Ending.TIMED_OUT)), decide(Decision.ROLL_BACK), *ON, *ON, *ON,
]  # fmt: skip
NOT_HELD_AND_RETRIED: Sequence[Act] = [
    *ON, drive(Will(check="confirmed-outside", verdict=Verdict.FAILED)), decide(Decision.RETRY), *ON,
    drive(Will(check="confirmed-inside", verdict=Verdict.ERROR)), decide(Decision.RETRY), *ON, Stage.abandon,
]  # fmt: skip
PATHS = {"well": WELL, "unknown and rolled back": UNKNOWN_AND_ROLLED_BACK, "not held": NOT_HELD_AND_RETRIED}


def walk(database: Database, snapshot: Snapshot, path: Sequence[Act]) -> Stage:
    """One path, from the alert on."""
    stage = Stage(database, snapshot, INPUTS)
    stage.fire()
    for act in path:
        act(stage)
    return stage


def came_to(database: Database, snapshot: Snapshot, path: Sequence[Act]) -> tuple[object, ...]:
    """Where it ended, by what moves, and what was changed on the way."""
    stage = walk(database, snapshot, path)
    ledger, seen = stage.outside.ledger, stage.seen()
    verdicts = [(row.leg, row.verdict) for row in seen.verdicts]
    return seen.run.state, seen.run.leg, seen.run.version, verdicts, ledger.changes, ledger.wrong


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty one of each kind."""
    if request.param == "sqlite":
        with memory() as made:
            yield made
        return
    server: Postgres = request.getfixturevalue("postgres")
    made = Database(server.new_database())
    migrate.upgrade(made)
    yield made
    made.close()


@pytest.mark.parametrize("path", PATHS.values(), ids=list(PATHS))
def test_a_path_comes_to_the_same_place_on_both(path: Sequence[Act], postgres: Postgres) -> None:
    theirs = Database(postgres.new_database())
    migrate.upgrade(theirs)

    with memory() as ours:
        assert came_to(ours, toy(), path) == came_to(theirs, toy(), path)
    theirs.close()


@pytest.mark.parametrize(
    ("path", "state"), [(WELL, RunState.COMPLETED), (UNKNOWN_AND_ROLLED_BACK, RunState.ROLLED_BACK)]
)
def test_a_path_ends_as_it_should(database: Database, path: Sequence[Act], state: RunState) -> None:
    stage = walk(database, toy(), path)

    assert stage.seen().run.state is state
    assert stage.outside.ledger.wrong == ()


def test_a_machine_that_does_not_ask_is_found_on_both(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "_is_approved", lambda *_: True)

    stage = walk(database, short(), 5 * ON)

    assert stage.outside.ledger.wrong == ("production changed production: nobody said yes to it",)
