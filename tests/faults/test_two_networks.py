"""Two workers on two machines (network namespaces): one is cut off in the middle of a step.

It destroys its own VM before its claim ends; the other takes over after that and not before, by the rules; the one
that was cut off comes back under another name, and what it brings moves nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from engine.domain.states import AttemptState, RunState
from engine.store import models
from tests.faults import findings, networks
from tests.faults.networks import Network
from tests.faults.processes import Process, until
from tests.faults.scene import OUTLIVES_S, Scene, scene, send
from tests.faults.world import Spec
from tests.services.postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
TIMEOUT_S = 8
TAKES_OVER_WITHIN_S = 6


@dataclass
class Cut:
    """What stands when the cable of the driving worker has just been cut."""

    on: Scene
    lonely: Process
    network: Network
    name: str


@pytest.fixture(scope="module")
def cables() -> Iterator[tuple[Network, Network]]:
    """Two machines."""
    with networks.two() as made:
        yield made


@pytest.fixture(scope="module")
def server(cables: tuple[Network, Network]) -> Iterator[Postgres]:
    """A Postgres that both reach, each by its own cable."""
    with Postgres.started(fsync=True, addresses=("127.0.0.1", *(each.ours for each in cables))) as made:
        yield made


def through(network: Network, url: str) -> dict[str, Any]:
    """Options of a process on that machine."""
    reached = sa.engine.make_url(url).set(host=network.ours).render_as_string(hide_password=False)
    return {"inside": network.inside, "url": reached}


def cut_off(on: Scene, cables: tuple[Network, Network], leg: str) -> Cut:
    """A run up to the middle of this leg; then the cable of its worker is cut."""
    bot = on.started("bot")
    machines = {str(n): on.started("worker", host=str(n), **through(each, on.url)) for n, each in enumerate(cables)}
    (alert,) = on.new_alerts(1)
    send(bot, f"{alert} firing")
    until(lambda: any(line["leg"] == leg for line in said(on)), f"{leg} under way")
    host = next(line["host"] for line in said(on) if line["leg"] == leg)
    name = attempts(on, leg)[0].worker
    cables[int(host)].cut()
    return Cut(on, machines[host], cables[int(host)], name)


def said(on: Scene) -> list[dict[str, Any]]:
    """Everything that all VMs said."""
    return [line for path in on.records.glob("*.jsonl") for line in findings.lines(on.records, path.stem)]


def the_run(on: Scene) -> models.Run:
    with on.database.reading() as session:
        return session.scalars(sa.select(models.Run)).one()


def attempts(on: Scene, leg: str) -> list[models.Attempt]:
    with on.database.reading() as session:
        query = sa.select(models.Attempt).where(models.Attempt.leg == leg)
        return list(session.scalars(query.order_by(models.Attempt.started_at)))


def events(on: Scene, kind: str) -> list[models.Event]:
    with on.database.reading() as session:
        return list(session.scalars(sa.select(models.Event).where(models.Event.kind == kind)))


def claim_ended(cut: Cut) -> float:
    """When the claims of the one that was cut off ended, on the clock that counts since boot."""
    with cut.on.database.reading() as session:
        worker = session.get_one(models.Worker, cut.name)
        return worker.alive_until.timestamp() + boot_minus_wall()


def boot_minus_wall() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.time()


def it_was_by_the_rules(cut: Cut, leg: str) -> models.Attempt:
    """Own VM dead before the claim ended, takeover after it. Returns the attempt that was cut off."""
    until(lambda: attempts(cut.on, leg)[0].state is not AttemptState.STARTED, "a takeover", TAKES_OVER_WITHIN_S + 5)
    attempt = attempts(cut.on, leg)[0]
    ended = claim_ended(cut)
    last = max(line["boot"] for line in said(cut.on) if line["task"] == attempt.id)
    assert attempt.ended_at is not None
    taken = attempt.ended_at.timestamp() + boot_minus_wall()
    print(f"claim ended at 0; its VM's last sign {last - ended:+.2f} s, takeover {taken - ended:+.2f} s")  # noqa: T201
    assert last < ended < taken < ended + TAKES_OVER_WITHIN_S
    return attempt


def it_comes_back_and_changes_nothing(cut: Cut, attempt: models.Attempt) -> None:
    """Under another name; its late result is kept as evidence."""
    before = the_run(cut.on)
    cut.network.mend()
    until(lambda: bool(events(cut.on, "late_result_kept")), "a late result", 60)
    until(lambda: cut.lonely.ask("who")["worker"] != cut.name, "another name", 60)
    late = next(row for row in attempts(cut.on, attempt.leg) if row.id == attempt.id)
    after = the_run(cut.on)
    assert (late.state, late.late) == (attempt.state, True)
    assert before.state is not RunState.HALTED or (after.state, after.version) == (before.state, before.version)


@pytest.mark.parametrize("works_s", [7.0, 2.5], ids=["destroyed by its worker", "ended unheard"])
def test_a_change_that_was_cut_off_is_never_made_again_by_itself(
    server: Postgres, cables: tuple[Network, Network], tmp_path: Path, works_s: float
) -> None:
    spec = Spec(slow="staging", slow_s=works_s, timeout_s=TIMEOUT_S, asks=False)
    with scene(server.new_database(), tmp_path, spec) as on:
        cut = cut_off(on, cables, "staging")
        try:
            attempt = it_was_by_the_rules(cut, "staging")
            assert attempt.state is AttemptState.UNKNOWN
            it_comes_back_and_changes_nothing(cut, attempt)
        finally:
            cut.network.mend()

        assert the_run(on).state is RunState.HALTED
        assert [row.id for row in attempts(on, "staging")] == [attempt.id]
        assert findings.doubled(said(on), (), ()) == []


def test_a_step_that_may_run_again_does_so_when_its_vm_has_ended_itself(
    server: Postgres, cables: tuple[Network, Network], tmp_path: Path
) -> None:
    spec = Spec(slow="fix", slow_s=6, timeout_s=TIMEOUT_S, asks=False)
    with scene(server.new_database(), tmp_path, spec) as on:
        cut = cut_off(on, cables, "fix")
        try:
            attempt = it_was_by_the_rules(cut, "fix")
            assert attempt.state is AttemptState.LOST
            until(lambda: len(attempts(on, "fix")) == 2, "a second try", TIMEOUT_S + OUTLIVES_S + 10)
            threading.Event().wait(0.5)  # its VM is under way
            it_comes_back_and_changes_nothing(cut, attempt)
        finally:
            cut.network.mend()
        again = attempts(on, "fix")[1]

        assert attempt.dead_by is not None
        assert again.started_at >= attempt.dead_by
        until(lambda: the_run(on).state is RunState.COMPLETED, "the end of the run", 60)
        assert len(attempts(on, "fix")) == 2
        assert findings.doubled(said(on), (), ("fix",)) == []
