"""The VM of a worker that is gone still works: whoever takes over destroys it first, or waits until it ended itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from engine.domain.states import AttemptState
from engine.store import models
from tests.faults import findings
from tests.faults.faults import at_once
from tests.faults.processes import until
from tests.faults.scene import Scene, scene, send
from tests.faults.world import Spec
from tests.services.postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
WORKS_S, TIMEOUT_S = 7.0, 8


def tries(on: Scene) -> list[models.Attempt]:
    """The attempts of the slow step."""
    with on.database.reading() as session:
        query = sa.select(models.Attempt).where(models.Attempt.leg == "fix").order_by(models.Attempt.started_at)
        return list(session.scalars(query))


def span(on: Scene, attempt: models.Attempt) -> tuple[float, float]:
    """First and last sign of its VM."""
    signs = [line["at"] for line in findings.lines(on.records, attempt.run_id) if line["task"] == attempt.id]
    return min(signs), max(signs)


@pytest.mark.parametrize("how", ["killed", "paused"])
@pytest.mark.parametrize("hosts", [("one", "one"), ("one", "two")], ids=["here", "elsewhere"])
def test_never_two_vms_of_one_run_at_once(how: str, hosts: tuple[str, str], postgres: Postgres, tmp_path: Path) -> None:
    spec = Spec(slow="fix", slow_s=WORKS_S, timeout_s=TIMEOUT_S, asks=False)
    with scene(postgres.new_database(), tmp_path, spec) as on:
        bot, workers = on.process("bot"), [on.process("worker", host=host) for host in hosts]
        at_once([bot, *workers])
        names = [each.ask("who")["worker"] for each in workers]
        alerts = on.new_alerts(1)
        send(bot, f"{alerts[0]} firing")
        until(lambda: any(begun(on, attempt) for attempt in tries(on)), "its VM")
        gone = workers[names.index(tries(on)[0].worker)]
        at = time.time()
        (gone.kill if how == "killed" else gone.pause)()
        until(lambda: len(tries(on)) == 2 and begun(on, tries(on)[1]), "a second try", 30)
        if how == "paused":
            gone.go_on()
        on.settle(alerts, "a run that ended")
        first, second = tries(on)
        (_, ended), (began, _) = span(on, first), span(on, second)

        assert (first.state, second.state) == (AttemptState.LOST, AttemptState.FINISHED)
        assert ended < began
        assert first.dead_by is not None
        if hosts == ("one", "one"):
            assert ended < at + WORKS_S - 1, "it was destroyed"
        else:
            assert began >= first.dead_by.timestamp()


def begun(on: Scene, attempt: models.Attempt) -> bool:
    """Whether its VM gave a sign."""
    return any(line["task"] == attempt.id for line in findings.lines(on.records, attempt.run_id))
