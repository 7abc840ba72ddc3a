"""A scene: a database, processes of Signalbox on hosts, a source that sends alerts, a person who answers questions.

The source and the person behave as real ones do: what was not acknowledged is sent, or pressed, again.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.store import migrate
from engine.store.session import Database
from tests.faults import findings
from tests.faults.findings import Fault, Findings
from tests.faults.processes import GoneError, Process, RefusedError, until
from tests.faults.world import ALERT, Spec

DEAD_AFTER_S = 3.0
OUTLIVES_S = 1.0
HUNG_AFTER_S = 3 * DEAD_AFTER_S
SETTLES_WITHIN_S = 60
TRY_AGAIN = ("Conflict", "Unavailable")


@dataclass
class Scene:
    """What a fault is done to. `url`: what the processes are told; `database`: the test's own eyes."""

    url: str
    folder: Path
    spec: Spec = field(default_factory=Spec)
    database: Database = field(init=False)
    processes: list[Process] = field(default_factory=list)
    person: Person | None = None
    _names: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _logs: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.database = Database(self.url)
        migrate.upgrade(self.database)

    @property
    def records(self) -> Path:
        """What the VMs said."""
        return self.folder / "records"

    def process(self, role: str, *, host: str = "here", inside: tuple[str, ...] = (), **options: object) -> Process:
        """A process, not started yet. `options`: further arguments of tests.faults.worker."""
        told = {
            "url": self.url,
            "folder": self.folder,
            "role": role,
            "host": host,
            "dead-after": DEAD_AFTER_S,
            "outlives": OUTLIVES_S,
            "spec": self.spec.write(),
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        arguments = itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in told.items())
        made = Process(tuple(arguments), self.folder / f"{next(self._logs):02d}-{role}.log", inside)
        self.processes.append(made)
        return made

    def started(self, role: str, **options: object) -> Process:
        """A process that answers."""
        made = self.process(role, **options)  # type: ignore[arg-type]  # options of `process`
        made.start()
        return made

    def new_alerts(self, count: int) -> tuple[str, ...]:
        """Names of alerts that nobody sent yet."""
        return tuple(f"{ALERT}{next(self._names):04d}" for _ in range(count))

    def settle(self, alerts: Collection[str], what: str) -> dict[int, str]:
        """Wait until each of these alerts has a run that ended; number of its incident -> alert."""
        until(lambda: findings.all_ended(self.database, alerts) is not None, what, SETTLES_WITHIN_S)
        return findings.all_ended(self.database, alerts) or {}

    def examine(self, alerts: Collection[str], fault: Fault, watched: str = "") -> Findings:
        """Wait until it settled, and count. What does not settle is hung (or lost, when no incident was opened).

        `watched`: the alert whose next event after the fault says how long recovery took.
        """
        try:
            numbers = self.settle(alerts, "runs that ended")
        except AssertionError:
            return self._unsettled(alerts)
        found = findings.examine(self.database, self.records, numbers, fault, HUNG_AFTER_S, self.spec.idempotent)
        if watched:
            of_it = [number for number, name in numbers.items() if name == watched]
            found.recovery_s = findings.first_sign(self.database, of_it, fault.at)
        return self._also_lost(found, alerts)

    def _unsettled(self, alerts: Collection[str]) -> Findings:
        known = findings.opened(self.database)
        return self._also_lost(Findings(hung=[f"{name}: never settled" for name in alerts if known[name]]), alerts)

    def _also_lost(self, found: Findings, alerts: Collection[str]) -> Findings:
        known = findings.opened(self.database)
        found.lost += [f"{name}: no incident" for name in alerts if not known[name]]
        found.doubled += [f"{name}: {known[name]} incidents" for name in alerts if known[name] > 1]
        if self.person is not None:
            found.lost += [
                f"a click of {token}"
                for token in self.person.acknowledged
                if findings.answered(self.database, token) != 1
            ]
            self.person.acknowledged.clear()
        return found

    def close(self) -> None:
        """Nothing of it stays alive."""
        if self.person is not None:
            self.person.stop()
        for process in self.processes:
            process.end()
        self.database.close()


@contextlib.contextmanager
def scene(url: str, folder: Path, spec: Spec | None = None) -> Iterator[Scene]:
    """A scene on an empty database."""
    made = Scene(url, folder, spec or Spec())
    try:
        yield made
    finally:
        made.close()


def send(bot: Process, body: str, give_up_s: float = 30) -> None:
    """An alert, sent until it is acknowledged, as Alertmanager does. Waits for a bot that is away."""
    deadline = time.monotonic() + give_up_s
    while True:
        try:
            bot.ask("receive", body=body)
        except (GoneError, RefusedError) as error:
            if isinstance(error, RefusedError) and error.kind not in TRY_AGAIN:
                raise
            if time.monotonic() > deadline:
                raise
            threading.Event().wait(0.05)
        else:
            return


@dataclass
class Person:
    """Answers whatever is asked: yes to an order, a decision to a halt. Presses again what was not acknowledged.

    `decides`: what is chosen for the first halts of a run, in turn; the last one again and again.
    """

    bot: Process
    name: str = "UANA"
    decides: tuple[str, ...] = ("take_over",)
    acknowledged: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _halts: dict[str, int] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Look at the screen, ten times a second."""
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Go home."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def _look(self) -> None:
        while not self._stopping.wait(0.1):
            try:
                for question in self.bot.ask("questions"):
                    self._answer(question["verb"], question["token"], question["run"])
            except GoneError:
                continue  # it comes back
            except RefusedError as error:
                self.errors.append(str(error))

    def _answer(self, verb: str, token: str, run: str) -> None:
        told = {"token": token, "by": self.name}
        if verb == "decide":
            turn = self._halts.get(run, 0)
            told["decision"] = self.decides[min(turn, len(self.decides) - 1)]
        try:
            self.bot.ask(verb, **told)
        except RefusedError as error:  # somebody was faster, or our own click got through before the bot died
            self.refused.append(str(error))
            return
        self.acknowledged.add(token)
        if verb == "decide":
            self._halts[run] = self._halts.get(run, 0) + 1
