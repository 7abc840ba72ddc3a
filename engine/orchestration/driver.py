"""The driver: takes a run that is queued, claims it, and drives it from boundary to boundary.

A boundary is one transaction: what came of the last work, and what comes next. Between two, outside any transaction,
an attempt is made or a gate measured. Wake-ups are hints; what the database says is what counts.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from engine.coordination import boundary, judging, lost, machine, results
from engine.coordination.boundary import AttemptWork, GateWork, Work
from engine.coordination.orders import World
from engine.coordination.results import Ended
from engine.domain.errors import BadInput, Conflict, SignalboxError, Unavailable
from engine.domain.gate import GateResult
from engine.domain.journey import Journey
from engine.domain.runbook import Snapshot
from engine.domain.states import FINAL, LOST_WITH_ITS_WORKER, RunState
from engine.orchestration.adapters import Adapters
from engine.orchestration.claim import Claim
from engine.orchestration.conversation import Conversations
from engine.orchestration.live import LiveLog
from engine.orchestration.performing import Performer, Running
from engine.store import models, outbox, runs, tokens, wakeups
from engine.store.session import Database, Session

log = structlog.get_logger()

AGAIN_S = 1.0
MOST_CONFLICTS = 5


@dataclass(slots=True)
class Drive:
    """One run while it is driven.

    `run` and `past` are as the last boundary left them, good as long as `version` is. The first one reads them itself:
    it may have had to wait since the run was looked at.
    """

    run_id: str
    snapshot: Snapshot
    journey: Journey
    version: int = -1
    run: models.Run | None = None
    past: runs.Past | None = None
    work: Work | None = None
    done: Ended | GateResult | None = None


@dataclass(slots=True)
class Driver:
    """Drives runs under the claim of this process; any number at once, each of them once."""

    database: Database
    adapters: Adapters
    running: Running
    claim: Claim
    unwell: dict[str, str] = field(default_factory=dict)
    _driven: set[str] = field(default_factory=set)
    _again: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _idle: threading.Condition = field(init=False)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._idle = threading.Condition(self._lock)

    def stop(self) -> None:
        """Go no further than the next boundary."""
        self._stopping.set()

    def driven(self) -> tuple[str, ...]:
        """The runs that this process drives now."""
        with self._lock:
            return tuple(self._driven)

    def wait_until_idle(self, timeout_s: float) -> None:
        """Return when nothing is driven any more, or after `timeout_s`."""
        with self._lock:
            self._idle.wait_for(lambda: not self._driven, timeout_s)

    def woken(self, run_id: str) -> None:
        """This run may have something to do: never raises, and never drives it twice at once."""
        with self._lock:
            if run_id in self._driven:
                self._again.add(run_id)
                return
            self._driven.add(run_id)
        while True:
            if not self._stopping.is_set() and not self._drive_safely(run_id):
                self.adapters.clock.sleep(AGAIN_S)  # the database is away: this wake-up is all that anybody knows
                continue
            if self._is_over(run_id):
                return

    def _is_over(self, run_id: str) -> bool:
        """Nothing came for it while it was driven: looked at and let go of at once, so that no wake-up is lost."""
        with self._lock:
            if run_id in self._again and not self._stopping.is_set():
                self._again.discard(run_id)
                return False
            self._driven.discard(run_id)
            self._again.discard(run_id)
            self._idle.notify_all()
            return True

    def _drive_safely(self, run_id: str) -> bool:
        """Never raises. False when the database did not answer, so that it is not known whether there is work."""
        try:
            self.drive(run_id)
        except (Unavailable, Conflict) as error:  # a Conflict: whoever looks at the clock comes back to it
            log.warning("run could not be driven; trying again", run=run_id, why=str(error))
            self.give_up(run_id)
            return not isinstance(error, Unavailable)
        except Exception as error:  # the rim of a thread: a run that cannot be driven must not take the others along
            log.exception("run could not be driven", run=run_id)
            self.give_up(run_id, defect=f"{type(error).__name__}: {error}")
        return True

    def take_back(self, run_id: str) -> None:
        """The database says that we drive this run: give it up, unless a thread of ours does."""
        with self._lock:
            if run_id in self._driven:
                return
            self._driven.add(run_id)  # nobody begins to drive it meanwhile
        self.give_up(run_id)
        with self._lock:
            woken = run_id in self._again
            self._driven.discard(run_id)
            self._again.discard(run_id)
        if woken:  # by us, most likely; but not in this thread, which has the others to look after
            with self.database.transaction() as session:
                wakeups.wake(session, runs.get(session, run_id))

    def drive(self, run_id: str) -> None:
        """Drive a run until it waits, halts or ends; one whose stored runbook does not load says so and stays."""
        with self.database.reading() as session:
            run = runs.whole(session, run_id)
        if run.state is not RunState.QUEUED or not self._may_claim(run):
            return
        try:
            snapshot, journey = self.adapters.snapshot(run)
        except BadInput as error:
            self._say_that_it_cannot_go_on(run_id, error)
            return
        self.running.enter(run_id)
        drive = Drive(run_id, snapshot, journey)
        performer = Performer(
            adapters=self.adapters,
            running=self.running,
            snapshot=snapshot,
            live_log=LiveLog(self.database, self.adapters.clock),
            conversations=Conversations(self.database, self.adapters.clock),
            may_go=lambda: self._may_go(run_id),
        )
        while (work := self._boundary_surely(drive)) is not None:
            with self.running.work(run_id):
                drive.done = performer.attempt(work) if isinstance(work, AttemptWork) else performer.gate(work)
        self.bury()

    def _may_claim(self, run: models.Run) -> bool:
        return run.worker in {None, self.claim.id} and run.pool == self.claim.pool and self.claim.holds

    def _may_go(self, run_id: str) -> bool:
        """The last look before a VM starts: our claim holds, and no kill switch is on."""
        if not self.claim.holds:
            return False
        with self.database.reading() as session:
            return runs.may_go(session, run_id, self.claim.id)

    def _say_that_it_cannot_go_on(self, run_id: str, error: BadInput) -> None:
        now = self.adapters.clock.now()
        with self.database.transaction() as session:
            run = runs.get(session, run_id)
            run.wake_at = None
            text = f"a person: {error}. /signalbox abandon {run.incident_number} ends it"
            if runs.say_waits_for(run, text):
                outbox.refresh(session, run.incident_number, now)
                log.error("a run cannot go on", run=run_id, why=str(error))  # expected, no trace

    # -- boundaries

    def _boundary_surely(self, drive: Drive) -> Work | None:
        """What came of work is not lost because the database was away for a while, or somebody was faster.

        Returns the work to do next.
        """
        conflicts = 0
        while True:
            try:
                return self._boundary(drive)
            except (Unavailable, Conflict) as error:
                drive.run = drive.past = None  # what was not committed stands in them too
                conflicts += isinstance(error, Conflict)
                if self._stopping.is_set() or conflicts > MOST_CONFLICTS or (drive.done is None and conflicts):
                    raise
                log.warning("boundary not written; trying again", run=drive.run_id, why=str(error))
                self.adapters.clock.sleep(AGAIN_S)

    def _boundary(self, drive: Drive) -> Work | None:
        """One transaction: write what came of the last work, and decide what comes next."""
        waits_for, world = self._outside(drive)
        now = self.adapters.clock.now()
        following: Work | None = None
        with self.database.transaction() as session:
            locked = runs.lock(session, drive.run_id, self.claim.id, drive.run)
            run, still_ours = locked.run, locked.run.version == drive.version
            if still_ours and drive.past is not None:
                runs.remember(session, run.id, drive.past)
            self._record(session, run, drive, now, still_ours=still_ours)
            claimed = self._may_claim(run) and locked.worker_lives
            if run.state is RunState.QUEUED and claimed and not self._stopping.is_set():
                run.worker = self.claim.id
                if world is None or (waits_for and now <= run.deadline_at):
                    boundary.wait(session, run, waits_for, now)
                else:
                    following = boundary.next_work(
                        session, run, drive.snapshot, drive.journey, world, self.claim.id, now, switch=locked.switch
                    )
            if following is None:
                self._let_go(session, run)
            else:
                wakeups.not_needed(session, run.id)
            drive.past = runs.past(session, run.id) if following is not None else None
        drive.run, drive.version, drive.work, drive.done = run, run.version, following, None
        return following

    def _outside(self, drive: Drive) -> tuple[str, World | None]:
        """What is true outside the database; and what is down or does not read, for which the run must wait."""
        waits_for = self._what_is_down()
        try:
            # last: what it hashed must still be so when the leg starts
            return waits_for, self.adapters.world(drive.snapshot)
        except BadInput as error:  # a sites file that does not read must not cost us what the attempt came to
            return f"a person: {error}", None

    def _record(self, session: Session, run: models.Run, drive: Drive, now: datetime, *, still_ours: bool) -> None:
        done = drive.done
        if isinstance(done, Ended):
            results.record(session, run, done, drive.snapshot, drive.journey, now)
        elif isinstance(done, GateResult) and isinstance(drive.work, GateWork):
            judging.record(
                session, run, drive.work.leg, done, drive.snapshot, drive.journey, now, still_ours=still_ours
            )

    def _let_go(self, session: Session, run: models.Run) -> None:
        """No VM of this run lives now: whoever comes next may claim it; if it ended, its targets are free."""
        if run.worker != self.claim.id or run.state in LOST_WITH_ITS_WORKER:
            return
        run.worker = None
        if run.state in FINAL:
            machine.let_go(session, run)
        elif run.state is RunState.QUEUED and self._stopping.is_set():
            wakeups.wake(session, run)

    def _what_is_down(self) -> str:
        """What a run needs and cannot have now; it then waits, says so, and goes on when it is back."""
        for check in (self.adapters.secrets.reachable, self.adapters.hypervisor.reachable):
            try:
                check()
            except SignalboxError as error:
                return f"{error}" + (f" ({error.remedy})" if error.remedy else "")
        shortage = self.adapters.hypervisor.shortage()
        return f"{shortage} (it goes on when other steps have ended)" if shortage else ""

    def bury(self) -> None:
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

    def give_up(self, run_id: str, defect: str = "") -> None:
        """Nobody drives this run any more, though our claim says so: it is as if its worker had died."""
        try:
            with self.database.reading() as session:
                run, attempt = runs.get(session, run_id), runs.started_attempt(session, run_id)
            if run.worker not in {None, self.claim.id}:
                return
            if attempt is not None:
                self.adapters.hypervisor.destroy(attempt.id)  # proof of death first
            with self.database.transaction() as session:
                run = runs.lock(session, run_id, self.claim.id).run
                if run.worker != self.claim.id and not defect:
                    return
                snapshot, journey = self.adapters.snapshot(run)
                now = self.adapters.clock.now()
                lost.worker_died(session, run, snapshot, journey, now, defect=defect)
        except SignalboxError as error:
            log.error("a run could not be recovered", run=run_id, why=str(error))  # expected, no trace
