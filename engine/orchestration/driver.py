"""The driver: threads of one process that drive runs from boundary to boundary, and the sweep that forgets nothing.

Wake-ups are hints: a doubled one finds the run in another state, a lost one is re-sent by the sweep. What the database
says is what counts.
"""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from engine.coordination import boundary, decisions, intake, judging, machine, results
from engine.coordination.boundary import AttemptWork, GateWork, Work
from engine.coordination.results import Ended
from engine.domain.errors import BadInput, Conflict, SignalboxError, Unavailable
from engine.domain.gate import GateResult
from engine.domain.runbook import Snapshot
from engine.domain.states import LOST_WITH_ITS_WORKER, RunState
from engine.orchestration.adapters import Adapters
from engine.orchestration.performing import Performer, Running
from engine.store import runs, tokens
from engine.store.ids import new_id
from engine.store.session import Database

log = structlog.get_logger()

SWEEP_S = 1.0
MOST_CONFLICTS = 5


@dataclass(slots=True)
class Driver:
    """Drives every run of this database, in this process. Start it once; stop it to drain to the next boundary."""

    database: Database
    adapters: Adapters
    workers: int
    running: Running
    unwell: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{new_id()[:6]}")
    _driven: set[str] = field(default_factory=set)
    _again: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _poke: threading.Event = field(default_factory=threading.Event)
    _recovered: bool = False
    _pool: ThreadPoolExecutor | None = None
    _sweeper: threading.Thread | None = None

    def start(self) -> None:
        """Begin: recovery first, then the sweep and the runs."""
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="run")
        self.database.on_wake = self.wake
        self._sweeper = threading.Thread(target=self._sweep_for_ever, name="sweep", daemon=True)
        self._sweeper.start()

    def stop(self, timeout_s: float = 30) -> None:
        """Stop at the next boundaries. What is still under way after `timeout_s` is found by the next start."""
        self._stop.set()
        self._poke.set()
        if self._sweeper is not None:
            self._sweeper.join(timeout_s)
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def poke(self) -> None:
        """Something came into the inbox."""
        self._poke.set()

    def wake(self, run_id: str) -> None:
        """This run may have something to do."""
        if self._stop.is_set() or self._pool is None or not self._recovered:
            return
        with self._lock:
            if run_id in self._driven:
                self._again.add(run_id)
                return
            self._driven.add(run_id)
        self._pool.submit(self._drive_safely, run_id)

    def _drive_safely(self, run_id: str) -> None:
        try:
            self.drive(run_id)
        except (Unavailable, Conflict) as error:  # the sweep comes back to it
            log.warning("run could not be driven; trying again", run=run_id, why=str(error))
        except Exception as error:  # the rim of a thread: a run that cannot be driven must not take the others along
            log.exception("run could not be driven", run=run_id)
            self._adopt(run_id, defect=f"{type(error).__name__}: {error}")
        with self._lock:
            self._driven.discard(run_id)
            again = run_id in self._again
            self._again.discard(run_id)
        if again:
            self.wake(run_id)

    def drive(self, run_id: str) -> None:
        """Drive a run until it waits, halts or ends; one whose stored runbook does not load says so and stays."""
        try:
            self._drive(run_id)
            self._let_go(run_id)
        except BadInput as error:
            with self.database.transaction() as session:
                run = runs.get(session, run_id)
                text = f"a person: {error}. /signalbox abandon {run.incident_number} ends it"
                if runs.say_waits_for(session, run, text):
                    machine.refresh(session, run.incident_number, self.adapters.clock.now())
                    log.error("a run cannot go on", run=run_id, why=str(error))  # expected, no trace

    def _let_go(self, run_id: str) -> None:
        """No VM of this run lives now: if it ended (abandoned in the middle, say), its targets are free."""
        with self.database.transaction() as session:
            machine.let_go(session, runs.get(session, run_id))

    def _drive(self, run_id: str) -> None:
        done: Ended | GateResult | None = None
        work: Work | None = None
        while not self._stop.is_set() or done is not None:
            following = self._boundary_surely(run_id, work, done)
            if following is None:
                return
            work, snapshot = following
            performer = Performer(adapters=self.adapters, running=self.running, snapshot=snapshot)
            done = performer.attempt(work) if isinstance(work, AttemptWork) else performer.gate(work)

    def _boundary_surely(
        self, run_id: str, work: Work | None, done: Ended | GateResult | None
    ) -> tuple[Work, Snapshot] | None:
        """What came of work is not lost because the database was away for a while, or somebody was faster."""
        conflicts = 0
        while True:
            try:
                return self._boundary(run_id, work, done)
            except (Unavailable, Conflict) as error:
                conflicts += isinstance(error, Conflict)
                if self._stop.is_set() or conflicts > MOST_CONFLICTS or (done is None and conflicts):
                    raise
                log.warning("boundary not written; trying again", run=run_id, why=str(error))
                self.adapters.clock.sleep(SWEEP_S)

    def _boundary(
        self, run_id: str, work: Work | None, done: Ended | GateResult | None
    ) -> tuple[Work, Snapshot] | None:
        """One transaction: write what came of the last work, and decide what comes next."""
        with self.database.reading() as session:
            run = runs.get(session, run_id)
        snapshot, journey = self.adapters.snapshot(run)
        waits_for = self._what_is_down()
        world = None
        try:
            world = self.adapters.world(run, snapshot)  # last: what it hashed must still be so when the leg starts
        except BadInput as error:  # a sites file that does not read must not cost us what the attempt came to
            waits_for = f"a person: {error}"
        now = self.adapters.clock.now()
        following = None
        with self.database.transaction() as session:
            run = runs.get(session, run_id)
            if isinstance(done, Ended):
                results.record(session, run, done, snapshot, journey, now)
            elif isinstance(done, GateResult) and isinstance(work, GateWork):
                judging.record(session, run, work.leg, done, snapshot, journey, now)
            run = runs.get(session, run_id)
            if run.state is RunState.QUEUED and not self._stop.is_set():
                if world is None or (waits_for and now <= run.deadline_at):
                    if runs.say_waits_for(session, run, waits_for):
                        machine.refresh(session, run.incident_number, now)
                else:
                    following = boundary.next_work(session, run, snapshot, journey, world, self.name, now)
        if following is None:
            self._bury()
            return None
        return following, snapshot

    def _what_is_down(self) -> str:
        """What a run needs and cannot have now; it then waits, says so, and goes on when it is back."""
        for check in (self.adapters.secrets.reachable, self.adapters.hypervisor.reachable):
            try:
                check()
            except SignalboxError as error:
                return f"{error}" + (f" ({error.remedy})" if error.remedy else "")
        return ""

    def _bury(self) -> None:
        """Nothing of a run that does not move stays alive: what it minted dies, and is proved dead."""
        with self.database.reading() as session:
            accessors = tokens.undead_at_rest(session)
        if not accessors:
            return
        try:
            self.adapters.secrets.recover(accessors)
        except SignalboxError as error:
            self.unwell["secrets"] = f"tokens not proved dead yet: {error}"
            return
        self.unwell.pop("secrets", None)

    # -- the sweep

    def _sweep_for_ever(self) -> None:
        while not self._stop.is_set():
            try:
                self.sweep()
            except Exception:  # the rim of a thread: the sweep must live, whatever one round ran into
                log.exception("sweep failed; trying again")
            self._poke.wait(SWEEP_S)
            self._poke.clear()

    def sweep(self) -> None:
        """One round: recover first, drain the inbox, look at the clock, wake what is queued."""
        self.drain()
        if not self._recovered:
            self._recovered = self.recover()
            if not self._recovered:
                self._say_why_nothing_moves()
                return
        self._bury()
        self._expire()
        with self.database.reading() as session:
            queued = runs.ids_in(session, [RunState.QUEUED])
            orphans = runs.ids_in(session, sorted(LOST_WITH_ITS_WORKER))
        for run_id in queued:
            self.wake(run_id)
        for run_id in orphans:
            self._adopt_unless_driven(run_id)

    def _adopt_unless_driven(self, run_id: str) -> None:
        """Whoever drove it gave up (database away, answer of a commit lost): nobody may wait for it in vain."""
        with self._lock:
            if run_id in self._driven:
                return
            self._driven.add(run_id)
        try:
            self._adopt(run_id)
        finally:
            with self._lock:
                self._driven.discard(run_id)
                self._again.discard(run_id)

    def _say_why_nothing_moves(self) -> None:
        with self.database.transaction() as session:
            for run_id in runs.ids_in(session, [RunState.QUEUED, *sorted(LOST_WITH_ITS_WORKER)]):
                run = runs.get(session, run_id)
                if runs.say_waits_for(session, run, f"recovery after a restart: {self.unwell['recovery']}"):
                    machine.refresh(session, run.incident_number, self.adapters.clock.now())

    def drain(self) -> None:
        """Work off the inbox, one body a transaction. A body that breaks us is set aside with its reason."""
        while not self._stop.is_set():
            try:
                with self.database.transaction() as session:
                    now = self.adapters.clock.now()
                    if not intake.drain_one(session, self.adapters.triggers, self.adapters.shelf, now):
                        return
            except (Unavailable, Conflict):
                raise  # the database's trouble, not the body's: it is tried again
            except Exception as error:  # a body that breaks us must not hold up those behind it
                log.exception("a body in the inbox could not be worked on; it is kept, with the reason")
                with self.database.transaction() as session:
                    intake.set_aside(session, f"a defect of ours: {type(error).__name__}: {error}")

    def _expire(self) -> None:
        now = self.adapters.clock.now()
        with self.database.reading() as session:
            late = [(row.run_id, row.id) for row in runs.expired_approvals(session, now)]
        for run_id, approval_id in late:
            try:
                self._expire_one(run_id, approval_id, now)
            except (BadInput, Conflict) as error:  # one run that cannot be halted must not hold up the others
                log.warning("an approval could not be ended", run=run_id, why=str(error))

    def _expire_one(self, run_id: str, approval_id: str, now: datetime) -> None:
        with self.database.transaction() as session:
            run = runs.get(session, run_id)
            snapshot, journey = self.adapters.snapshot(run)
            approval = runs.live_approval(session, run_id)
            if approval is not None and approval.id == approval_id:
                decisions.expire(session, run, approval, snapshot, journey, now)

    # -- after a crash

    def recover(self) -> bool:
        """Bring order after whatever happened to the last process; False when something needed for it is down.

        This process holds the lock of the installation, so every VM with our mark, every token and every started
        attempt is a leftover.
        """
        try:
            swept = self.adapters.hypervisor.sweep()
            with self.database.reading() as session:
                accessors = tokens.undead(session)
            if accessors:
                self.adapters.secrets.recover(accessors)
        except SignalboxError as error:  # also a token that cannot be proved dead: nothing is driven before it is
            self.unwell["recovery"] = f"{error} ({error.remedy})" if error.remedy else str(error)
            return False
        self.unwell.pop("recovery", None)
        if swept:
            log.info("destroyed leftover VMs", tasks=swept)
        with self.database.reading() as session:
            orphans = runs.ids_in(session, sorted(LOST_WITH_ITS_WORKER))
            holders = runs.holders(session)
        for run_id in orphans:
            self._adopt(run_id)
        for run_id in holders:
            self._let_go(run_id)
        return True

    def _adopt(self, run_id: str, defect: str = "") -> None:
        try:
            with self.database.reading() as session:
                attempt = runs.started_attempt(session, run_id)
            if attempt is not None:
                self.adapters.hypervisor.destroy(attempt.id)  # proof of death first
            with self.database.transaction() as session:
                run = runs.get(session, run_id)
                snapshot, journey = self.adapters.snapshot(run)
                results.worker_died(session, run, snapshot, journey, self.adapters.clock.now(), defect)
        except SignalboxError as error:
            log.error("a run could not be recovered", run=run_id, why=str(error))  # expected, no trace
