"""The faults: each is done to a scene of its own, so many times; each time it is counted what it cost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from engine.store import models
from tests.faults import proxy
from tests.faults.findings import Fault, Findings
from tests.faults.processes import Process, until
from tests.faults.scene import DEAD_AFTER_S, Person, Scene, scene, send
from tests.services.postgres import Postgres

A_RUN_S = 2.3
""" How long a run takes that nothing happens to. """


@dataclass(frozen=True)
class Stage:
    """Where faults are done. `rng` chooses the moments: the same seed, the same choices."""

    postgres: Postgres
    folder: Path
    rng: random.Random

    def scene(self) -> contextlib.AbstractContextManager[Scene]:
        """A scene on a new database."""
        return scene(self.postgres.new_database(), self.folder)

    def pause(self, at_most_s: float) -> None:
        """A random moment later."""
        threading.Event().wait(self.rng.uniform(0, at_most_s))


Try = Iterator[Findings]
Tries = Callable[[Stage, int], Try]


def staffed(on: Scene, *hosts: str) -> tuple[Process, dict[str, Process]]:
    """A bot, a person at it, and a worker on each of these hosts (by name, `host` or `host#2`)."""
    bot = on.process("bot")
    workers = {name: on.process("worker", host=name.partition("#")[0]) for name in hosts}
    at_once([bot, *workers.values()])
    on.person = Person(bot, decides=("retry", "take_over"))
    on.person.start()
    return bot, workers


def at_once(processes: list[Process]) -> None:
    """Start these, and wait until all of them answer."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(Process.start, processes))


def victim(on: Scene, workers: dict[str, Process], alert: str) -> tuple[str, bool]:
    """Which of these workers drives the run of an alert; any, and False, when none does right now."""
    query = (
        sa.select(models.Worker.process)
        .join(models.Run, models.Run.worker == models.Worker.id)
        .join(models.Incident, models.Incident.number == models.Run.incident_number)
        .where(models.Incident.title == f"{alert} on toy")
    )
    with on.database.reading() as session:
        process = session.scalar(query)
    for name, worker in workers.items():
        if process is not None and process.split("-")[1] == str(worker.pid):
            return name, True
    return next(iter(workers)), False


# -- workers


def worker_killed(stage: Stage, tries: int, *hosts: str, alone: bool = False) -> Try:
    """kill -9 of the worker that drives a run; others take over, or (alone) it is started again."""
    with stage.scene() as on:
        bot, workers = staffed(on, *hosts)
        for _ in range(tries):
            (alert,) = alerts = on.new_alerts(1)
            send(bot, f"{alert} firing")
            stage.pause(A_RUN_S)
            name, drove = victim(on, workers, alert)
            now = time.time()
            workers[name].kill()
            if alone:
                workers[name].start()
            whole = time.time() if alone else now
            yield on.examine(alerts, Fault(now, whole), alert if drove else "")
            if not alone:
                workers[name].start()


def worker_killed_on_its_host(stage: Stage, tries: int) -> Try:
    """Another worker on the same host takes over: it destroys the VM first."""
    return worker_killed(stage, tries, "one", "one#2")


def worker_killed_elsewhere(stage: Stage, tries: int) -> Try:
    """A worker on another host takes over: it waits until the VM has ended itself."""
    return worker_killed(stage, tries, "one", "two")


def worker_killed_alone(stage: Stage, tries: int) -> Try:
    """The only worker is started again at once."""
    return worker_killed(stage, tries, "one", alone=True)


def worker_paused(stage: Stage, tries: int, *hosts: str) -> Try:
    """SIGSTOP for longer than its claim, while its VM goes on; then SIGCONT."""
    with stage.scene() as on:
        bot, workers = staffed(on, *hosts)
        for _ in range(tries):
            (alert,) = alerts = on.new_alerts(1)
            send(bot, f"{alert} firing")
            stage.pause(A_RUN_S)
            name, drove = victim(on, workers, alert)
            now = time.time()
            workers[name].pause()
            threading.Event().wait(2 * DEAD_AFTER_S)
            workers[name].go_on()
            yield on.examine(alerts, Fault(now, now), alert if drove else "")


def worker_paused_on_its_host(stage: Stage, tries: int) -> Try:
    """Another worker on the same host takes over."""
    return worker_paused(stage, tries, "one", "one#2")


def worker_paused_elsewhere(stage: Stage, tries: int) -> Try:
    """A worker on another host takes over."""
    return worker_paused(stage, tries, "one", "two")


def five_workers(stage: Stage, tries: int) -> Try:
    """Nobody dies: five workers, twenty incidents at once. Nothing may run twice, idempotent or not."""
    with stage.scene() as on:
        bot, _ = staffed(on, "one", "one#2", "two", "two#2", "three")
        on.spec = replace(on.spec, idempotent=())  # for counting: the processes were told otherwise
        for _ in range(tries):
            alerts = on.new_alerts(20)
            now = time.time()
            for alert in alerts:
                send(bot, f"{alert} firing")
            on.settle(alerts, "twenty runs that ended")
            yield on.examine(alerts, Fault(now, time.time()))


# -- the bot


def bot_killed(stage: Stage, tries: int) -> Try:
    """kill -9 of the bot, once around an alert that comes in, once around a click; it is started again."""
    with stage.scene() as on:
        bot, _ = staffed(on, "one")
        for _ in range(tries):
            (alert,) = alerts = on.new_alerts(1)
            sending = threading.Thread(target=send, args=(bot, f"{alert} firing"))
            sending.start()
            stage.pause(0.05)
            now = time.time()
            bot.kill()
            bot.start()
            sending.join()
            until(lambda alert=alert: is_asked(on, alert), "a question")  # type: ignore[misc]  # bound as it is now
            stage.pause(0.15)
            bot.kill()
            bot.start()
            yield on.examine(alerts, Fault(now, time.time()), alert)


def is_asked(on: Scene, alert: str) -> bool:
    """Whether the run of this alert ever asked for an approval."""
    query = (
        sa.select(sa.func.count(models.Approval.id))
        .join(models.Run, models.Run.id == models.Approval.run_id)
        .join(models.Incident, models.Incident.number == models.Run.incident_number)
        .where(models.Incident.title == f"{alert} on toy")
    )
    with on.database.reading() as session:
        return bool(session.scalar(query))


def two_bots(stage: Stage, tries: int) -> Try:
    """Two bots take the same alerts, and a person at each answers the same questions, at the same moment."""
    with stage.scene() as on:
        bots = [on.process("bot"), on.process("bot")]
        at_once([*bots, on.process("worker", host="one")])
        people = [Person(bot, name) for bot, name in zip(bots, ("UANA", "UBEN"), strict=True)]
        for person in people:
            person.start()
        on.person = people[0]
        for _ in range(tries):
            alerts = on.new_alerts(2)
            now = time.time()
            sending = [threading.Thread(target=send, args=(bot, f"{alert} firing")) for alert in alerts for bot in bots]
            for thread in sending:
                thread.start()
            for thread in sending:
                thread.join()
            on.settle(alerts, "runs that ended")
            on.person.acknowledged |= people[1].acknowledged
            people[1].acknowledged.clear()
            yield on.examine(alerts, Fault(now, time.time()))
        people[1].stop()


# -- the database


def postgres_killed(stage: Stage, tries: int) -> Try:
    """The server dies as in a power cut, and is started again."""
    with stage.scene() as on:
        bot, _ = staffed(on, "one", "two")
        for _ in range(tries):
            alerts = on.new_alerts(2)
            for alert in alerts:
                send(bot, f"{alert} firing")
            stage.pause(A_RUN_S)
            now = time.time()
            stage.postgres.crash()
            stage.pause(1.5)
            stage.postgres.start()
            yield on.examine(alerts, Fault(now, time.time()), alerts[0])


def backend_killed(stage: Stage, tries: int) -> Try:
    """kill -9 of one server process of a worker: Postgres then throws out everybody and recovers."""
    with stage.scene() as on:
        bot, _ = staffed(on, "one", "two")
        for _ in range(tries):
            alerts = on.new_alerts(2)
            for alert in alerts:
                send(bot, f"{alert} firing")
            stage.pause(A_RUN_S)
            database = sa.engine.make_url(on.url).database
            everybody = stage.postgres.admin("SELECT datname, pid FROM pg_stat_activity WHERE datname IS NOT NULL")
            pids = [int(str(pid)) for name, pid in everybody if name == database]
            now = time.time()
            os.kill(stage.rng.choice(pids), signal.SIGKILL)
            until(lambda: answers(stage.postgres), "a server that answers again")
            yield on.examine(alerts, Fault(now, time.time()), alerts[0])


def answers(postgres: Postgres) -> bool:
    """Whether the server takes connections."""
    with contextlib.suppress(sa.exc.OperationalError):
        return bool(postgres.admin("SELECT 1"))
    return False


def commit_cut(stage: Stage, tries: int) -> Try:
    """The connection between a worker and Postgres breaks in the middle of a commit, on either side of it."""
    with stage.scene() as on, proxy.before(stage.postgres.port) as between:
        through = sa.engine.make_url(on.url).set(port=between.port).render_as_string(hide_password=False)
        bot = on.process("bot")
        at_once([bot, on.process("worker", host="one", url=through)])
        on.person = Person(bot, decides=("retry", "take_over"))
        on.person.start()
        for number in range(tries):
            (alert,) = alerts = on.new_alerts(1)
            send(bot, f"{alert} firing")
            stage.pause(A_RUN_S)
            between.cut(stage.rng.randint(1, 3), list(proxy.Cut)[number % 2])
            assert between.cut_at.wait(20), "nobody committed"
            now = time.time()
            yield on.examine(alerts, Fault(now, now), alert)


def disk_full(stage: Stage, tries: int) -> Try:
    """SQLite, one process: its file system is full for a while."""
    with small_disk(stage.folder / "disk") as disk, scene(f"sqlite:///{disk / 'signalbox.db'}", stage.folder) as on:
        everything = on.started("up")
        on.person = Person(everything, decides=("retry", "take_over"))
        on.person.start()
        for _ in range(tries):
            alerts = on.new_alerts(2)
            send(everything, f"{alerts[0]} firing")
            stage.pause(A_RUN_S)
            now = time.time()
            fill(disk / "filler")
            sending = threading.Thread(target=send, args=(everything, f"{alerts[1]} firing"))
            sending.start()
            stage.pause(4)
            (disk / "filler").unlink()
            whole = time.time()
            sending.join()
            yield on.examine(alerts, Fault(now, whole), alerts[0])


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 16 MB of its own. Needs root, as `make test-faults` says."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "signalbox-faults", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"\0" * 4096)


# -- all of them


@dataclass(frozen=True)
class Kind:
    """One row of the table. `briefly`: how many tries in the short form, 0 for none."""

    name: str
    tries: Tries
    times: int
    briefly: int = 0

    def __str__(self) -> str:
        return self.tries.__name__


KINDS = (
    Kind("kill -9 of a worker; another one on its host", worker_killed_on_its_host, 20, 1),
    Kind("kill -9 of a worker; another one elsewhere", worker_killed_elsewhere, 20),
    Kind("kill -9 of the only worker, started again", worker_killed_alone, 20),
    Kind("SIGSTOP of a worker beyond its claim, SIGCONT; another one on its host", worker_paused_on_its_host, 6, 1),
    Kind("SIGSTOP of a worker beyond its claim, SIGCONT; another one elsewhere", worker_paused_elsewhere, 6),
    Kind("five workers, 20 incidents at once", five_workers, 1),
    Kind("kill -9 of the bot, at an alert and at a click", bot_killed, 20, 1),
    Kind("two bots, the same alerts and clicks at both", two_bots, 10),
    Kind("kill -9 of Postgres, started again", postgres_killed, 20, 1),
    Kind("kill -9 of a Postgres backend", backend_killed, 10),
    Kind("connection cut in the middle of a commit", commit_cut, 20, 2),
    Kind("full disk (SQLite)", disk_full, 10),
)
