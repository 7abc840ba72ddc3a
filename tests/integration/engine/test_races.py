"""Two things at once, or an answer that never came: found on real processes (tests/faults), told here one at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from engine.domain.errors import Unavailable
from engine.domain.states import AttemptState, RunState
from engine.store import claims, inbox, models
from engine.store.session import Database, Session
from tests.integration.engine.conftest import Box


def test_a_beat_between_a_wake_up_and_its_claim_stops_nothing(box: Box) -> None:
    """The run is in our hands and not yet ours in the database: that is no lost claim."""
    box.fire()
    box.secrets.when_asked = box.worker._beat
    box.driver.woken(box.run().id)

    assert box.run().state is RunState.AWAITING_APPROVAL


def test_a_beat_stops_a_run_that_somebody_ended(box: Box) -> None:
    def be_abandoned() -> None:
        box.secrets.when_asked = lambda: None
        with box.database.transaction() as session:
            session.execute(sa.update(models.Run).values(worker=None))
        box.worker._beat()

    box.fire()
    box.gates.before_each = lambda _check: be_abandoned()
    box.driver.drive(box.run().id)

    assert box.driver.running.is_stopped(box.run().id)


def test_what_was_found_out_about_earlier_work_does_not_stop_what_is_done_now(box: Box) -> None:
    running = box.driver.running
    with running.work("run"):
        seen = running.at_work()["run"]
    with running.work("run"):
        running.stop("run", seen)
        assert not running.is_stopped("run")
        running.stop("run", running.at_work()["run"])
        assert running.is_stopped("run")


def test_a_wake_up_is_not_given_up_because_the_database_was_away(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.fire()
    run_id, answers, times_away = box.run().id, box.database.reading, iter(range(3))

    def away() -> contextlib.AbstractContextManager[Session]:
        if next(times_away, None) is not None:
            raise Unavailable("the database did not answer")
        return answers()

    monkeypatch.setattr(box.database, "reading", away)
    box.driver.woken(run_id)

    assert box.run().state is RunState.AWAITING_APPROVAL


def test_a_result_whose_commit_was_not_heard_of_is_no_late_result(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    commits, unheard = box.database.transaction, iter([False, True])

    @contextlib.contextmanager
    def transaction() -> Iterator[Session]:
        with commits() as session:
            yield session
        if next(unheard, False):
            raise Unavailable("the connection was cut after the commit")

    box.fire()
    monkeypatch.setattr(box.database, "transaction", transaction)
    box.driver.woken(box.run().id)
    box.worker.look_for_the_dead()

    assert box.run().attempts[0].state is AttemptState.FINISHED
    assert "late_result_kept" not in [event.kind for event in box.incident().events]
    assert box.run().state is RunState.QUEUED, "the gate that nobody measured is measured anew"
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def jobs(database: Database) -> int:
    with database.reading() as session:
        return int(session.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) or 0)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_wake_up_that_died_with_its_worker_is_sent_again_by_whoever_finds_it_dead(box: Box) -> None:
    box.fire()
    now = box.clock.now()
    dead = models.Worker(
        id="dead/1", process="dead", host="there", pool="default", concurrency=1, started_at=now, alive_until=now
    )
    with box.database.transaction() as session:
        claims.join(session, dead, -60)
        session.execute(sa.text("DELETE FROM procrastinate_jobs"))  # it was fetched, and nothing came of it
    box.worker.reaper.reap()

    assert jobs(box.database) == 1


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_two_bots_work_off_the_inbox_in_order(box: Box) -> None:
    """The end of an alert must not overtake its beginning: it would have nothing to end."""
    for body in (b"ToyBroken firing", b"ToyBroken resolved"):
        box.service.receive("fake", {"Authorization": "Bearer token"}, body)
    with box.database.transaction() as session:  # another bot is at the first
        assert inbox.oldest_pending(session) is not None
        here = threading.Thread(target=box.watch.drain)
        here.start()
        here.join(0.5)
    here.join()
    box.watch.drain()

    assert box.incident().alerts[0].status == "resolved"
