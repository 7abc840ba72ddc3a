"""A thousand incidents that wait for a human cost rows, and nothing else: no job, no thread, no VM, no statement."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from engine.domain.states import RunState
from engine.store import models
from tests.faults.processes import Process, until
from tests.faults.scene import Person, Scene, scene, send
from tests.faults.world import Spec
from tests.services.postgres import Postgres

MANY = 1000
WARM = 8
IDLE_S = 20
WITHIN = 0.1


@dataclass(frozen=True)
class Cost:
    """Of all processes together, while nothing happens."""

    statements_per_s: float
    threads: int
    resident_kib: int


def idle(processes: list[Process]) -> Cost:
    """Watch them do nothing for a while."""
    before = [each.ask("cost") for each in processes]
    threading.Event().wait(IDLE_S)
    after = [each.ask("cost") for each in processes]
    statements = sum(row["statements"] for row in after) - sum(row["statements"] for row in before)
    return Cost(statements / IDLE_S, *(sum(row[what] for row in after) for what in ("threads", "resident_kib")))


def waiting(on: Scene) -> int:
    """How many runs wait for a person."""
    with on.database.reading() as session:
        query = sa.select(sa.func.count()).select_from(models.Run)
        return session.scalar(query.where(models.Run.state == RunState.AWAITING_APPROVAL)) or 0


def size(on: Scene) -> int:
    """Bytes of the whole database."""
    shared = "SELECT pg_database_size(current_database())"
    alone = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    with on.database.reading() as session:
        return int(session.scalar(sa.text(shared if on.database.is_shared else alone)) or 0)


def wake_ups(on: Scene) -> int:
    """Jobs that are there."""
    if not on.database.is_shared:
        return 0
    with on.database.reading() as session:
        return int(session.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'wake'")) or 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_thousand_that_wait_cost_rows_and_nothing_else(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'signalbox.db'}"
    if kind == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    with scene(url, tmp_path, Spec(waits_at_once=True, measures_s=0)) as on:
        processes = [on.started(role) for role in (("bot", "worker") if on.database.is_shared else ("up",))]
        warmed_up(on, processes[0])
        alone, bytes_alone = idle(processes), size(on)
        for alert in on.new_alerts(MANY):
            send(processes[0], f"{alert} firing")
        until(lambda: waiting(on) == MANY and wake_ups(on) == 0, "a thousand that wait", 600)
        crowded, bytes_crowded = idle(processes), size(on)
        resident = (crowded.resident_kib - alone.resident_kib) / MANY
        stored = (bytes_crowded - bytes_alone) / MANY / 1024
        print(  # noqa: T201 - what the test is asked to print
            f"{kind}: {alone.statements_per_s:.2f} statements/s with none waiting, {crowded.statements_per_s:.2f} with "
            f"{MANY}; threads {alone.threads} and {crowded.threads}; per incident {resident:.2f} KiB of memory in all "
            f"processes together, {stored:.1f} KiB in the database"
        )

        assert crowded.statements_per_s == pytest.approx(alone.statements_per_s, rel=WITHIN)
        assert crowded.threads == alone.threads
        assert wake_ups(on) == 0
        assert list((on.folder / "hosts").glob("*/*.json")) == [], "a VM"


def warmed_up(on: Scene, bot: Process) -> None:
    """A few that came and went: every thread that is ever needed is there."""
    person = Person(bot)
    person.start()
    alerts = on.new_alerts(WARM)
    for alert in alerts:
        send(bot, f"{alert} firing")
    on.settle(alerts, "runs that ended")
    person.stop()
