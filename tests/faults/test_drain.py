"""SIGTERM: the step under way ends, its result is written, and somebody else goes on with the run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from engine.domain.states import AttemptState
from engine.store import models
from tests.faults import findings
from tests.faults.findings import Fault
from tests.faults.processes import until
from tests.faults.scene import DEAD_AFTER_S, Scene, scene, send
from tests.faults.world import Spec
from tests.services.postgres import Postgres

STEP_S = DEAD_AFTER_S + 2


def legs(on: Scene) -> dict[str, tuple[str, AttemptState]]:
    """Each step that was tried -> by whom, and what became of it."""
    with on.database.reading() as session:
        query = sa.select(models.Attempt.leg, models.Attempt.worker, models.Attempt.state)
        return {leg: (worker, state) for leg, worker, state in session.execute(query)}


def alive_until(on: Scene, worker: str) -> datetime:
    with on.database.reading() as session:
        return session.get_one(models.Worker, worker).alive_until


def escalations(on: Scene) -> int:
    with on.database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(models.Escalation)) or 0


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_worker_that_is_told_to_stop_hands_its_run_over_at_the_next_boundary(
    postgres: Postgres, tmp_path: Path
) -> None:
    spec = Spec(slow="staging", slow_s=STEP_S, timeout_s=int(STEP_S) + 3, asks=False)
    with scene(postgres.new_database(), tmp_path, spec) as on:
        bot, workers = on.started("bot"), [on.started("worker"), on.started("worker")]
        names = [each.ask("who")["worker"] for each in workers]
        (alert,) = alerts = on.new_alerts(1)
        send(bot, f"{alert} firing")
        until(lambda: "staging" in legs(on), "the slow step")
        leaves = legs(on)["staging"][0]
        stays = next(name for name in names if name != leaves)
        begun = alive_until(on, leaves)
        workers[names.index(leaves)].drain()
        assert workers[names.index(leaves)].wait(int(STEP_S) + 10) == 0
        renewed = alive_until(on, leaves) - begun
        numbers = on.settle(alerts, "a run that ended")

        assert renewed.total_seconds() > 1, "its claim was renewed while it drained"
        assert legs(on)["staging"] == (leaves, AttemptState.FINISHED)
        assert legs(on)["production"] == (stays, AttemptState.FINISHED)
        assert escalations(on) == 0
        assert findings.examine(on.database, on.records, numbers, Fault(0, 0), 1e12, ()).doubled == []
