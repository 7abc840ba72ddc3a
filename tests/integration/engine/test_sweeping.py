"""Who counts as living when VMs are swept, on both databases; and that a worker sweeps again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from engine.orchestration import worker as worker_module
from engine.orchestration.carriers import Local
from engine.store import claims, models
from tests.integration.engine.conftest import Box


def asked(box: Box, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What each sweep is told; filled while it goes on."""
    told: list[set[str]] = []

    def sweep(living: Callable[[], Collection[str]] = tuple) -> tuple[str, ...]:
        told.append(set(living()))
        return ()

    monkeypatch.setattr(box.hypervisor, "sweep", sweep)
    return told


def another(box: Box, host: str, process: str) -> str:
    """Another worker of the installation; its id."""
    now = datetime.now(UTC)
    row = models.Worker(
        id=f"{process}/1", process=process, host=host, pool="default", concurrency=1, started_at=now, alive_until=now
    )
    with box.database.transaction() as session:
        claims.join(session, row, 60)
    return f"{process}/1"


def test_every_living_process_of_this_host_keeps_its_vms_until_it_is_declared_dead(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asked(box, monkeypatch)
    other, _ = another(box, "here", "other"), another(box, "elsewhere", "far")
    box.worker.reaper.sweep()
    with box.database.transaction() as session:
        session.execute(sa.update(models.Worker).where(models.Worker.id == other).values(ended_at=datetime.now(UTC)))
    box.worker.reaper.sweep()

    assert told == [{"test-1", "other"}, {"test-1"}]


def test_a_worker_sweeps_again_and_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    told = asked(box, monkeypatch)
    monkeypatch.setattr(worker_module, "SWEPT_EVERY_S", 0.05)
    box.worker.carrier = lambda drive: Local(box.database, 1, drive)
    box.worker.start()
    try:
        for _ in range(200):
            if len(told) > 3:
                break
            threading.Event().wait(0.05)
    finally:
        box.worker.stop(1)

    assert len(told) > 3
    assert all("test-1" in living for living in told)
