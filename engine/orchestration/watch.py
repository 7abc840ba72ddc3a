"""The watch: works off the inbox, and looks at the clock. Needs no VM, so it lives where people are told and asked."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import structlog

from engine.coordination import intake, timing
from engine.domain.errors import BadInput, Conflict, Unavailable
from engine.orchestration.adapters import Adapters
from engine.orchestration.anchoring import Anchoring
from engine.store import claims, inbox, runs
from engine.store.session import Database

log = structlog.get_logger()

ROUND_S = 1.0


@dataclass(slots=True)
class Watch:
    """One thread. Several processes may keep watch on one database: each row is worked on once.

    `anchoring`: who keeps the heads of the chains outside the database; none in tests that do not speak of it.
    """

    database: Database
    adapters: Adapters
    anchoring: Anchoring | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _poke: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def unwell(self) -> dict[str, str]:
        """Name of each part that is unwell -> why."""
        return self.anchoring.unwell if self.anchoring is not None else {}

    def start(self) -> None:
        """Begin to keep watch."""
        if self.anchoring is not None:
            self.anchoring.start()
        self._thread = threading.Thread(target=self._for_ever, name="watch", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 30) -> None:
        """End after this round."""
        self._stopping.set()
        self._poke.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self.anchoring is not None:
            self.anchoring.stop(timeout_s)

    def poke(self) -> None:
        """Something came into the inbox."""
        self._poke.set()

    def _for_ever(self) -> None:
        while not self._stopping.is_set():
            try:
                self.drain()
                self.look_at_the_clock()
            except (Unavailable, Conflict) as error:
                log.warning("the watch: trying again", why=str(error))
            except Exception:  # the rim of a thread: it must live, whatever one round ran into
                log.exception("the watch failed; trying again")
            self._poke.wait(ROUND_S)
            self._poke.clear()

    def drain(self) -> None:
        """Work off the inbox, one body a transaction. A body that breaks us is set aside with its reason."""
        while not self._stopping.is_set() and self._drain_one():
            pass

    def _drain_one(self) -> bool:
        taken: int | None = None
        try:
            with self.database.transaction() as session:
                row = inbox.oldest_pending(session)
                if row is None:
                    return False
                taken = row.id
                ours = self.adapters
                now = ours.clock.now()
                intake.work_off(session, row, ours.triggers, ours.shelf, now, only_activated=ours.only_activated)
        except (Unavailable, Conflict):
            raise  # the database's trouble, not the body's: it is tried again
        except Exception as error:  # a body that breaks us must not hold up those behind it
            if taken is None:
                raise
            log.exception("a body in the inbox could not be worked on; it is kept, with the reason")
            with self.database.transaction() as session:
                intake.set_aside(session, taken, f"a defect of ours: {type(error).__name__}: {error}")
        return True

    def look_at_the_clock(self) -> None:
        """Do what is due: send wake-ups again, warn, remind, expire."""
        with self.database.reading() as session:
            due = claims.due(session, self.adapters.clock.now())
        for run_id in due:
            try:
                self._look(run_id)
            except (BadInput, Conflict) as error:  # one run that cannot be looked at must not hold up the others
                log.warning("a run could not be looked at", run=run_id, why=str(error))

    def _look(self, run_id: str) -> None:
        with self.database.transaction() as session:
            run = runs.lock(session, run_id).run
            timing.look(session, run, lambda: self.adapters.snapshot(run), self.adapters.clock.now())
