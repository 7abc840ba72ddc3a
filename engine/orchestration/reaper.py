"""Finding what the dead left behind: runs that nobody drives, VMs, tokens.

A run is taken from a worker only after its claims have ended. Its VM is destroyed first; where that cannot be seen
(another host), nothing of the run starts before the VM has ended itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from engine.coordination import lost
from engine.domain.errors import SignalboxError
from engine.orchestration.adapters import Adapters
from engine.orchestration.claim import Claim
from engine.store import claims, runs, tokens
from engine.store.claims import Orphan
from engine.store.session import Database
from engine.store.wakeups import wake

log = structlog.get_logger()

GRACE_S = 1.0
""" How long after its claims ended a worker is declared dead. """


@dataclass(slots=True)
class Reaper:
    """Brings order after whatever happened to a worker. Any worker may; all of them do."""

    database: Database
    adapters: Adapters
    claim: Claim
    unwell: dict[str, str] = field(default_factory=dict)

    def recover(self) -> bool:
        """At the start: nothing of ours is alive but what a living process works with; False when that is unproved.

        The only process of its database (SQLite) knows that every other worker, VM, token and attempt is a leftover.
        """
        try:
            with self.database.transaction() as session:
                if not self.database.is_shared:
                    claims.end_all_others(session, self.claim.process)
                accessors = () if self.database.is_shared else tokens.undead(session)
            swept = self.adapters.hypervisor.sweep(self._living)
            if accessors:
                self.adapters.secrets.recover(accessors)
        except SignalboxError as error:  # also a token that cannot be proved dead: nothing is driven before it is
            self.unwell["recovery"] = f"{error} ({error.remedy})" if error.remedy else str(error)
            self.reap()  # people are asked all the same; nothing starts while a leftover may live
            return False
        self.unwell.pop("recovery", None)
        if swept:
            log.info("destroyed leftover VMs", tasks=swept)
        self.reap()
        return True

    def sweep(self) -> None:
        """Now and then: what nobody who lives works with, though it was none of a run that could be taken up.

        Such are the VMs that waited in the pool of a process that died. Raises Unavailable.
        """
        if swept := self.adapters.hypervisor.sweep(self._living):
            log.warning("destroyed VMs that nobody worked with", tasks=swept)

    def _living(self) -> Collection[str]:
        """The processes of this host that may have VMs."""
        with self.database.reading() as session:
            return {*claims.processes(session, self.claim.host), self.claim.process}

    def reap(self) -> None:
        """One round: declare dead whoever fell silent, and take up what they drove."""
        with self.database.transaction() as session:
            if self.database.is_shared:
                dead = claims.declare_dead(session, GRACE_S)
                if dead:
                    log.warning("a worker is dead", workers=dead)
                    for run in runs.queued(session):  # wake-ups may have died in its hands
                        wake(session, run)
            orphans = claims.orphans(session)
            unclaimed = claims.unclaimed_under_way(session)
        # of a release that knew no claims: on SQLite it ran here, elsewhere nobody knows where
        host = "" if self.database.is_shared else self.claim.host
        for orphan in (*orphans, *(Orphan(run_id, "", host) for run_id in unclaimed)):
            try:
                self._take_up(orphan)
            except SignalboxError as error:
                log.error("a run could not be recovered", run=orphan.run_id, why=str(error))  # expected, no trace

    def _take_up(self, orphan: Orphan) -> None:
        with self.database.reading() as session:
            attempt = runs.started_attempt(session, orphan.run_id)
            accessors = tokens.undead_of(session, orphan.run_id)
        seen_dead = self._bury(orphan, attempt.id if attempt is not None else "", accessors)
        with self.database.transaction() as session:
            run = runs.lock(session, orphan.run_id).run
            under_way = runs.started_attempt(session, run.id)
            proved_another = under_way is not None and (attempt is None or under_way.id != attempt.id)
            if (run.worker or "") != orphan.worker or proved_another:
                return  # somebody was faster, or it went on meanwhile: the next round looks again
            snapshot, journey = self.adapters.snapshot(run)
            lost.worker_died(session, run, snapshot, journey, self.adapters.clock.now(), seen_dead=seen_dead)

    def _bury(self, orphan: Orphan, attempt_id: str, accessors: Collection[str]) -> bool:
        """End the VMs and the tokens of a run; whether all of that was seen."""
        here = orphan.host == self.claim.host
        try:
            if here:
                self.adapters.hypervisor.destroy_all_of(orphan.run_id)
                if attempt_id:  # also bars one that has not begun
                    self.adapters.hypervisor.destroy(attempt_id)
            if accessors:
                self.adapters.secrets.recover(accessors)
        except SignalboxError as error:
            log.warning("leftovers of a dead worker are not proved dead", run=orphan.run_id, why=str(error))
            return False
        return here
