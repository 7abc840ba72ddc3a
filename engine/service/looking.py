"""What people and machines are shown: incidents, health, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from engine.coordination import standing
from engine.coordination.activation import must_be_activated
from engine.domain.errors import BadInput, Conflict, Refused, SignalboxError
from engine.domain.incident import IncidentSummary, IncidentView, RunView, SwitchView, WorkerView
from engine.domain.runbook import Snapshot
from engine.domain.standing import Standing
from engine.orchestration.adapters import Adapters
from engine.orchestration.watch import Watch
from engine.orchestration.worker import Worker
from engine.service.people import People
from engine.store import claims, inbox, incidents, models, outbox, runs, switch, views
from engine.store.session import Database, Session


class Looking:
    """Reads, each in one transaction that only reads."""

    _database: Database
    _adapters: Adapters
    _watch: Watch
    _worker: Worker | None
    _people: People

    def incidents(self, *, only_open: bool = False, limit: int = 50) -> tuple[IncidentSummary, ...]:
        """Newest first."""
        with self._database.reading() as session:
            return views.summaries(session, only_open=only_open, limit=limit)

    def incident(self, incident: int | str) -> IncidentView:
        """By number or by id. Raises BadInput when there is none."""
        with self._database.reading() as session:
            row = self._incident(session, incident)
            return IncidentView(
                id=str(row.number),
                number=row.number,
                title=row.title,
                severity=row.severity,
                state=row.state,
                opened_at=row.opened_at,
                closed_at=row.closed_at,
                opened_by=row.opened_by,
                choose_token=row.choose_token,
                runbooks=self._choosable(session) if row.choose_token else (),
                alerts=views.alerts(session, row.number),
                runs=tuple(self._run(session, run) for run in runs.of_incident(session, row.number)),
                events=views.events(session, row.number),
                notes=views.notes(session, row.number),
            )

    def _run(self, session: Session, run: models.Run) -> RunView:
        try:
            journey = self._adapters.snapshot(run)[1]
        except BadInput:
            journey = None  # its runbook no longer loads: what happened can still be read
        return views.run(session, run, journey, self._people.approvers)

    def standing(self, run_id: str) -> Standing:
        """Where a run stands. Raises BadInput when there is none, or its runbook no longer loads."""
        with self._database.reading() as session:
            try:
                run = runs.whole(session, run_id)
            except Conflict as error:
                raise BadInput(str(error), "the incident's page links its runs") from None
            return standing.of_run(run, self._adapters.snapshot(run)[1])

    def runbooks(self) -> tuple[str, ...]:
        """Names of the runbooks that may be started."""
        with self._database.reading() as session:
            return self._choosable(session)

    def _choosable(self, session: Session) -> tuple[str, ...]:
        shelf = self._adapters.shelf
        return tuple(name for name in shelf.valid() if self._may_start(session, shelf.read(name)))

    def _may_start(self, session: Session, snapshot: Snapshot) -> bool:
        try:
            self._must_be_activated(session, snapshot)
        except Refused:
            return False
        return True

    def _must_be_activated(self, session: Session, snapshot: Snapshot) -> None:
        if self._adapters.only_activated:
            must_be_activated(session, snapshot)

    def healthy(self) -> Mapping[str, str]:
        """Name of each part that is unwell -> why. Empty when all is well."""
        unwell = {**self._watch.unwell, **(self._worker.unwell if self._worker is not None else {})}
        checks = {"database": self._database_answers}
        if self._worker is not None:
            checks |= {"secrets": self._adapters.secrets.reachable, "libvirt": self._adapters.hypervisor.reachable}
        for name, check in checks.items():
            try:
                check()
            except SignalboxError as error:
                unwell[name] = str(error)
        return unwell if "database" in unwell else {**unwell, **self._not_lost()}

    def _not_lost(self) -> Mapping[str, str]:
        """What nobody was told, or nobody works on: a person must look."""
        with self._database.reading() as session:
            dead, rejected = outbox.counts(session).get("dead", 0), inbox.rejected(session)
            thrown, living = switch.read(session), claims.living(session)
            idle = sorted({run.pool for run in runs.queued(session)} - {worker.pool for worker in living})
        found = {}
        if thrown.on:
            who = (thrown.by.name or thrown.by.id) if thrown.by else "somebody"
            found["kill switch"] = f"on, thrown by {who}: nothing starts. /signalbox resume lets it go on"
        if idle:
            found["workers"] = f"no worker drives the pool {', '.join(idle)}, and runs wait there"
        if dead:
            found["outbox"] = f"{dead} messages could not be delivered; the incidents' pages show what they said"
        if rejected:
            found["inbox"] = f"{rejected} bodies of alerts made no sense; they are kept with their reasons"
        return found

    def _database_answers(self) -> None:
        with self._database.reading() as session:
            views.open_incidents(session)

    def kill_switch(self) -> SwitchView:
        """How the kill switch stands."""
        with self._database.reading() as session:
            return switch.read(session)

    def workers(self) -> tuple[WorkerView, ...]:
        """The workers that live, oldest first."""
        with self._database.reading() as session:
            return tuple(
                WorkerView(
                    id=row.id,
                    pool=row.pool,
                    concurrency=row.concurrency,
                    since=row.started_at,
                    alive_until=row.alive_until if self._database.is_shared else None,
                )
                for row in claims.living(session)
            )

    def metrics(self) -> Mapping[str, Mapping[str, int]]:
        """Counts for Prometheus: metric name -> label value (or empty) -> number."""
        with self._database.reading() as session:
            return {
                "incidents_open": {"": views.open_incidents(session)},
                "kill_switch": {"": int(switch.read(session).on)},
                "workers": Counter(worker.pool for worker in claims.living(session)),
                "runs": views.run_counts(session),
                "outbox_rows": outbox.counts(session),
                "inbox_rejected": {"": inbox.rejected(session)},
            }

    def _incident(self, session: Session, incident: int | str) -> models.Incident:
        text = str(incident).upper().removeprefix("INC-")
        row = incidents.get(session, int(text)) if text.isdigit() and len(text) < 10 else None
        if row is None:
            raise BadInput(f"there is no incident {incident}", "/signalbox list shows them")
        return row
