"""Every quirk of Procrastinate that was measured, and that it is cured here (notes: engine.md, sections 4 and 5)."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.orchestration import fleet
from engine.store import migrate
from engine.store.session import Database
from tests.integration.fleet.conftest import Fleets, until
from tests.services.postgres import Postgres

NOT_IN_THIS_TEST_S = 60.0
RARELY_S = 5.0
SOON_S = 2.5
""" Far below the library's own poll of 5 s, far above what a busy machine needs. """


class Nevermind(Exception):
    """The transaction fails."""


def test_a_transaction_that_rolls_back_leaves_no_job(fleets: Fleets) -> None:
    def roll_back() -> None:
        with fleets.database.transaction() as session:
            fleets.wake_in(session, "never")
            raise Nevermind

    with pytest.raises(Nevermind):
        roll_back()
    assert fleets.jobs() == 0

    fleets.wake("one", "two")
    assert fleets.jobs("todo") == 2


def test_a_commit_begins_a_drive_by_notification_alone(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "POLL_S", RARELY_S)
    fleets.start()
    took = [fleets.measure(f"run-{number}") for number in range(20)]

    print(f"commit to drive: p50 {sorted(took)[10] * 1000:.1f} ms, longest {max(took) * 1000:.1f} ms")  # noqa: T201
    assert sorted(took)[10] < RARELY_S / 20


def test_a_job_that_comes_while_another_is_fetched_is_found_by_the_poll(fleets: Fleets) -> None:
    """In a tight chain many notifications come during a fetch, and are forgotten."""
    names = [f"link-{number}" for number in range(100)]
    following = dict(itertools.pairwise(names))

    def drive(run_id: str) -> None:
        if run_id in following:
            fleets.wake(following[run_id])

    fleets.start(drive=drive)
    fleets.wake(names[0])
    fleets.began(names[-1])

    begun = [at for _, at in fleets.driven]
    assert [name for name, _ in fleets.driven] == names
    assert max(later - sooner for sooner, later in itertools.pairwise(begun)) < SOON_S


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Postgres, Fleets]]:
    """A server that may be restarted."""
    monkeypatch.setattr(fleet, "POLL_S", NOT_IN_THIS_TEST_S)
    with Postgres.started(fsync=True) as server:
        url = server.new_database()
        database = Database(url)
        migrate.upgrade(database)
        made = Fleets(url, database)
        yield server, made
        made.close()


def test_notifications_come_again_after_the_database_was_restarted(own: tuple[Postgres, Fleets]) -> None:
    server, fleets = own
    fleets.start()
    server.crash()
    server.start()
    until(lambda: fleets.listens() == 1, "somebody listens again")
    fleets.nudge("first")  # the poll is off, so only a notification can have brought it
    fleets.nudge("second")


def test_wake_ups_are_taken_again_while_a_long_step_goes_on(own: tuple[Postgres, Fleets]) -> None:
    """Its own worker would wait for the job under way before it began again."""
    server, fleets = own
    goes_on = threading.Event()
    fleets.start(drive=lambda run_id: goes_on.wait(60) if run_id == "long" else None)
    try:
        fleets.nudge("long")
        server.crash()
        server.start()
        until(lambda: fleets.listens() == 1, "somebody listens again")
        fleets.nudge("short")
    finally:
        goes_on.set()
    assert {name for name, _ in fleets.driven} == {"long", "short"}


KILLED = """
import sys, threading
from engine.orchestration.fleet import Fleet
def drive(run_id):
    print(run_id, flush=True)
    threading.Event().wait()
Fleet(sys.argv[1], "default", 1, "dies", drive).start()
threading.Event().wait()
"""


def test_a_job_of_a_worker_that_was_killed_is_failed_and_never_retried(
    fleets: Fleets, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[3]
    doomed = subprocess.Popen(
        [sys.executable, "-c", KILLED, fleets.url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with doomed:
        assert doomed.stdout is not None
        fleets.wake("left")
        assert doomed.stdout.readline().strip() == "left"
        doomed.send_signal(signal.SIGKILL)
    monkeypatch.setattr(fleet, "SWEPT_EVERY_S", 0.2)
    fleets.start()
    fleets.measure("later")
    assert fleets.jobs("doing") == 1
    with fleets.database.engine.begin() as connection:  # as if two minutes had passed
        connection.exec_driver_sql(
            "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '120 s'"
        )
    until(lambda: fleets.jobs() == 0, "the job is gone")

    assert [name for name, _ in fleets.driven] == ["later"]


def test_sixteen_runs_are_driven_at_once(fleets: Fleets) -> None:
    together = threading.Barrier(17)
    fleets.start(concurrency=16, drive=lambda _run_id: together.wait(30))
    fleets.wake(*(f"run-{number}" for number in range(16)))
    together.wait(30)

    assert len(fleets.driven) == 16


def test_no_more_jobs_are_taken_than_can_be_driven(fleets: Fleets) -> None:
    """What is fetched, no other worker can take."""
    goes_on = threading.Event()
    fleets.start(concurrency=2, drive=lambda _run_id: goes_on.wait(60))
    fleets.wake("one", "two", "three", "four")
    until(lambda: len(fleets.driven) == 2, "two are driven")
    fleets.start(concurrency=2)
    try:
        until(lambda: len(fleets.driven) == 4, "the other takes the rest", 10)
    finally:
        goes_on.set()


def test_two_pools_do_not_take_each_others_runs(fleets: Fleets) -> None:
    ours: list[str] = []
    theirs: list[str] = []
    fleets.start("kvm-eu", drive=ours.append)
    fleets.start("prod-vpc", drive=theirs.append)
    for number in range(10):
        fleets.wake(f"eu-{number}", pool="kvm-eu")
        fleets.wake(f"vpc-{number}", pool="prod-vpc")
    until(lambda: len(ours) + len(theirs) == 20, "all are driven")

    assert {name[:2] for name in ours} == {"eu"}
    assert {name[:2] for name in theirs} == {"vp"}


def test_the_most_urgent_goes_first(fleets: Fleets) -> None:
    goes_on = threading.Event()
    fleets.start(concurrency=1, drive=lambda run_id: goes_on.wait(30) if run_id == "first" else None)
    fleets.wake("first")
    fleets.began("first")
    for name, priority in (("info", 10), ("critical", 40), ("warning", 20)):
        fleets.wake(name, priority=priority)
    goes_on.set()
    fleets.began("info")

    assert [name for name, _ in fleets.driven] == ["first", "critical", "warning", "info"]
