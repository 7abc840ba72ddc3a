"""A worker: this process's claim, driver, carrier and reaper, and the threads that keep them honest.

Four threads on a shared database, each with one reason to be slow: one renews the claim, one ends what runs when the
claim is about to end (it talks to nobody but the hypervisor), one looks for the dead, one sweeps what nobody works
with. Begun in order, ended in reverse.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from engine.domain.errors import Conflict, SignalboxError, Unavailable
from engine.orchestration.adapters import Adapters
from engine.orchestration.carriers import Carrier
from engine.orchestration.claim import Claim
from engine.orchestration.driver import Driver
from engine.orchestration.reaper import Reaper
from engine.store import claims, outbox, runs
from engine.store.session import Database
from engine.store.wakeups import wake

log = structlog.get_logger()

WATCHED_S = 0.2
RECOVERED_AGAIN_S = 1.0
SWEPT_EVERY_S = 30.0
STOPPED_WITHIN_S = 20.0


@dataclass(slots=True)
class Worker:
    """Drives runs. Start it once; stop it to drain to the next boundary."""

    database: Database
    adapters: Adapters
    claim: Claim
    driver: Driver
    reaper: Reaper
    carrier: Callable[[Callable[[str], None]], Carrier]
    _taking: Carrier | None = None
    _draining: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def unwell(self) -> dict[str, str]:
        """Name of each part that is unwell -> why."""
        return {**self.driver.unwell, **self.reaper.unwell}

    @property
    def beats_s(self) -> float:
        """How often the claim is renewed, and the dead are looked for."""
        return max(0.2, self.claim.lasts_s / 10)

    def start(self) -> None:
        """Begin. Recovery comes first: nothing is driven while leftovers of the last process may live."""
        self.claim.join(self.adapters.clock.now())
        if self.database.is_shared:
            self._thread("beat", self._beat, self.beats_s, self._ended)
            self._thread("watchdog", self._watch_over, WATCHED_S, self._ended)
        self._thread("reaper", self._recover_then_reap, min(self.beats_s, RECOVERED_AGAIN_S), self._draining)
        self._thread("sweeper", self._sweep, SWEPT_EVERY_S, self._draining)

    def stop(self, timeout_s: float = 30) -> None:
        """Stop at the next boundaries; the claim is renewed until then.

        What is still under way after `timeout_s` is stopped, and a person is asked about it.
        """
        self.driver.stop()
        self._draining.set()
        if self._taking is not None:
            self._taking.stop(timeout_s)
        left = self.driver.driven()
        if left:
            log.warning("still under way; destroying its VMs", runs=left)
            self.driver.running.stop_all()
            self.driver.wait_until_idle(STOPPED_WITHIN_S)
        self._ended.set()
        for thread in self._threads:
            thread.join(STOPPED_WITHIN_S)
        try:
            self.claim.leave()
        except SignalboxError as error:  # it is found dead when its claims end
            log.warning("could not say that this worker leaves", why=str(error))

    def _thread(self, name: str, work: Callable[[], None], every_s: float, until: threading.Event) -> None:
        def for_ever() -> None:
            while not until.is_set():
                try:
                    work()
                except (Unavailable, Conflict) as error:
                    log.warning("trying again", thread=name, why=str(error))
                except Exception:  # the rim of a thread: it must live, whatever one round ran into
                    log.exception("a round failed; trying again", thread=name)
                until.wait(every_s)

        thread = threading.Thread(target=for_ever, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _beat(self) -> None:
        """Renew the claim, and stop what must not go on: runs that somebody ended, the kill switch."""
        if self.claim.beat():
            self.stop_what_must_not_go_on()
        else:
            self._come_back()

    def stop_what_must_not_go_on(self) -> None:
        """Steps of runs that somebody ended or took, and all of them while the kill switch is on: whoever threw it."""
        seen = self.driver.running.at_work()  # before we ask: what is claimed meanwhile is not lost
        if not seen:
            return
        with self.database.reading() as session:
            lost = claims.lost_to(session, self.claim.id, tuple(seen))
        for run_id in lost:
            self.driver.running.stop(run_id, seen[run_id])

    def _come_back(self) -> None:
        """Our claims ended: what ran under them is stopped, and we are another worker from here on."""
        self.claim.end()
        self.driver.running.stop_all()
        self.claim.leave()
        self.claim.join(self.adapters.clock.now())
        log.warning("claims were lost; back as another worker", worker=self.claim.id)

    def _watch_over(self) -> None:
        """A claim that could not be renewed is about to end: whatever runs under it ends first."""
        if not self.claim.holds:
            self.driver.running.stop_all()

    def _recover_then_reap(self) -> None:
        if self._taking is not None:
            if not self.database.is_shared:  # nothing beats here, and the switch may be thrown by the command line
                self.stop_what_must_not_go_on()
            self.look_for_the_dead()
            return
        if not self.reaper.recover():
            self.say_why_nothing_moves()
            return
        taking = self.carrier(self.driver.woken)
        taking.start()
        self._taking = taking
        with self.database.transaction() as session:
            for run in runs.queued(session):
                wake(session, run)

    def _sweep(self) -> None:
        if self._taking is not None:  # recovery sweeps first, and again until it gets through
            self.reaper.sweep()

    def look_for_the_dead(self) -> None:
        """One round: take up what dead workers left, and what is ours while no thread of ours drives it.

        A thread gives a run up when the database is away for too long, or when the answer of a commit was lost.
        """
        self.reaper.reap()
        with self.database.reading() as session:
            ours = claims.of(session, self.claim.id)
        for run_id in ours:
            self.driver.take_back(run_id)
        self.driver.bury()

    def say_why_nothing_moves(self) -> None:
        """Recovery did not get through; the runs that wait say so."""
        why = self.reaper.unwell["recovery"]
        with self.database.transaction() as session:
            for run in runs.queued(session):
                if runs.say_waits_for(run, f"recovery after a restart: {why}"):
                    outbox.refresh(session, run.incident_number, self.adapters.clock.now())
