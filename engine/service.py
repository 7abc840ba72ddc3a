"""The front door: what the bot may ask of the engine. Each call is one transaction (or one read).

Synchronous; the bot crosses by `asyncio.to_thread`. Errors are those of `engine.domain.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from engine.coordination import closing, decisions, machine, opening
from engine.coordination.approvals import must_be_pending
from engine.domain.alert import Severity
from engine.domain.errors import BadInput, Conflict, NotAllowed, Refused, SignalboxError
from engine.domain.harness import NoteDraft
from engine.domain.incident import (
    IncidentSummary,
    IncidentView,
    MessageRef,
    NoteView,
    OutboxItem,
    Person,
    RunView,
    Topic,
)
from engine.domain.ports import Harness
from engine.domain.states import Decision
from engine.orchestration.adapters import Adapters
from engine.orchestration.driver import Driver
from engine.store import inbox, incidents, models, outbox, runs, views
from engine.store.ids import new_id
from engine.store.session import Database, Session

MAX_TITLE = 200
MAX_NOTE = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who may do what. `approvers` approve, decide, abandon and close."""

    approvers: tuple[str, ...]


class Service:
    """The verbs of Signalbox."""

    def __init__(
        self,
        database: Database,
        adapters: Adapters,
        driver: Driver,
        people: People,
        harness: Harness,
    ) -> None:
        self._database = database
        self._adapters = adapters
        self._driver = driver
        self._people = people
        self._harness = harness

    # -- alerts in

    def receive(self, source: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Verify and keep one body in the inbox; True if new, False if this delivery was there already.

        Raises BadInput for an unknown source, Unauthenticated, TooLarge. Work on it begins after the commit.
        """
        trigger = self._adapters.triggers.get(source)
        if trigger is None:
            known = ", ".join(sorted(self._adapters.triggers)) or "none is configured"
            raise BadInput(f"there is no source {source!r}", f"known sources: {known}")
        delivery = trigger.verify({name.lower(): value for name, value in headers.items()}, body)
        with self._database.transaction() as session:
            new = inbox.keep(session, delivery, self._adapters.clock.now())
        self._driver.poke()
        return new

    # -- people

    def declare(self, person: Person, title: str, severity: Severity, runbook: str | None) -> IncidentView:
        """Open an incident by hand; with a run, by who may decide. Raises BadInput (empty title, unknown runbook)."""
        if runbook:
            decisions.must_be_allowed(person, self._people.approvers)
        title = " ".join(title.split())[:MAX_TITLE]
        if not title:
            raise BadInput("an incident needs a title", "/signalbox declare what is wrong")
        snapshot = self._adapters.shelf.read(runbook) if runbook else None
        now = self._adapters.clock.now()
        with self._database.transaction() as session:
            incident = incidents.open_incident(
                session, key=f"declared:{new_id()}", title=title, severity=severity, opened_by=person.id, now=now
            )
            incidents.append_event(
                session,
                number=incident.number,
                run_id=None,
                at=now,
                kind="incident_declared",
                actor=person.id,
                text=f"{person.name or person.id} declared: {title}",
            )
            machine.refresh(session, incident.number, now)
            if snapshot is not None:
                opening.open_run(session, incident, snapshot, None, chosen_by=person.id, now=now)
        return self.incident(incident.number)

    def choose_runbook(self, token: str, person: Person, runbook: str) -> IncidentView:
        """Start a run of this runbook for an incident that has none. Raises Conflict when one is there already."""
        decisions.must_be_allowed(person, self._people.approvers)
        snapshot = self._adapters.shelf.read(runbook)
        now = self._adapters.clock.now()
        with self._database.transaction() as session:
            incident = incidents.by_choose_token(session, token)
            if incident is None or runs.active(session, incident.number) is not None:
                raise Conflict("a runbook was chosen already, or this chooser is not known", "look at the incident")
            alerts = incidents.alert_values(session, incident.number)
            opening.open_run(session, incident, snapshot, alerts[-1] if alerts else None, chosen_by=person.id, now=now)
        return self.incident(incident.number)

    def approve(
        self, token: str, person: Person, *, yes: bool, reason: str = "", at: MessageRef | None = None
    ) -> IncidentView:
        """Answer an approval.

        Raises NotAllowed (says who may), Conflict (already decided and by whom, expired, unknown token), Refused (the
        order changed since it was shown: the approval is void, and that is committed).
        """
        decisions.must_be_allowed(person, self._people.approvers)
        with self._database.reading() as session:
            run = runs.get(session, must_be_pending(session, token).run_id)
        snapshot, journey = self._adapters.snapshot(run)
        world = self._adapters.world(run, snapshot)
        now = self._adapters.clock.now()
        void = ""
        with self._database.transaction() as session:
            approval = must_be_pending(session, token)
            self._must_be_its_message(session, f"approval:{approval.id}", at)
            run = runs.get(session, approval.run_id)
            if yes:
                void = decisions.approve(session, run, approval, snapshot, journey, world, person, now)
            else:
                decisions.reject(session, run, approval, snapshot, journey, person, reason, now)
        if void:
            raise Refused(f"the approval is void: {void}", "nothing was changed; Retry measures and asks anew")
        return self.incident(run.incident_number)

    def decide(
        self, token: str, person: Person, decision: Decision, *, reason: str = "", at: MessageRef | None = None
    ) -> IncidentView:
        """Answer an escalation. Raises NotAllowed, Conflict, BadInput (a decision that is not an option here)."""
        decisions.must_be_allowed(person, self._people.approvers)
        with self._database.reading() as session:
            run = runs.get(session, self._escalation(session, token).run_id)
        snapshot, journey = self._adapters.snapshot(run)
        world = self._adapters.world(run, snapshot)
        now = self._adapters.clock.now()
        with self._database.transaction() as session:
            escalation = self._escalation(session, token)
            self._must_be_its_message(session, f"escalation:{escalation.id}", at)
            run = runs.get(session, escalation.run_id)
            decisions.decide(session, run, escalation, snapshot, journey, world, person, decision, reason, now)
        return self.incident(run.incident_number)

    def abandon(self, number: int, person: Person, reason: str) -> IncidentView:
        """End whatever run the incident has, destroy its VM, close it. Raises NotAllowed, BadInput (no such one)."""
        decisions.must_be_allowed(person, self._people.approvers)
        now = self._adapters.clock.now()
        with self._database.transaction() as session:
            incident = self._incident(session, number)
            run = runs.active(session, incident.number)
            if run is not None:
                decisions.abandon(session, run, person, reason[:MAX_NOTE], now)
            else:
                closing.close(session, incident, now, actor=person.id, text=f"Abandoned: {reason[:MAX_NOTE]}")
        if run is not None:
            self._driver.running.stop(run.id)
        return self.incident(number)

    def close(self, number: int, person: Person) -> IncidentView:
        """Close an incident whose run has ended. Raises Conflict while one is active."""
        decisions.must_be_allowed(person, self._people.approvers)
        now = self._adapters.clock.now()
        with self._database.transaction() as session:
            incident = self._incident(session, number)
            if runs.active(session, incident.number) is not None:
                raise Conflict("its run has not ended", f"decide it first, or /signalbox abandon {number}")
            closing.close(session, incident, now, actor=person.id, text=f"{person.name or person.id} closed it.")
        return self.incident(number)

    def note(
        self, number: int, person: Person, *, steps: Mapping[str, str], what: str, change: str, rule: str
    ) -> NoteView:
        """Keep a harness note. `steps`: step id -> followed | drifted | skipped.

        A note of which no patch can be made (no run, no words for a rule) is kept all the same, and says why.
        """
        view = self.incident(number)
        now = self._adapters.clock.now()
        with self._database.reading() as session:
            note_id = self._harness.number(incidents.next_note_id(session))
        masked = self._adapters.secrets.redactor()
        draft = NoteDraft(
            id=note_id,
            by=person,
            at=now,
            steps=dict(steps),
            what=masked(what)[:MAX_NOTE],
            change=masked(change)[:MAX_NOTE],
            rule=masked(rule)[:MAX_NOTE],
        )
        patch, why_none = self._patch(draft, view)
        with self._database.transaction() as session:
            row = incidents.add_note(session, number=view.number, draft=draft, patch=patch)
            incidents.append_event(
                session,
                number=view.number,
                run_id=None,
                at=now,
                kind="note_written",
                actor=person.id,
                text=f"{person.name or person.id} wrote harness note HN-{row.id}. {why_none}".strip(),
                detail={"note": row.id, "no_patch": why_none},
            )
            key, urgency = f"note:{row.id}", outbox.REPORTS
            outbox.tell(session, Topic.NOTE_WRITTEN, view.number, str(row.id), key, urgency, now)
            return views.note(row)

    def _patch(self, draft: NoteDraft, view: IncidentView) -> tuple[str, str]:
        """The patch of a note, or nothing and the reason."""
        with self._database.reading() as session:
            history = runs.of_incident(session, view.number)
        if not history:
            return "", "No patch: the incident had no run, so nothing was recorded to test against."
        try:
            return self._harness.patch(draft, view, self._adapters.snapshot(history[-1])[1]), ""
        except (BadInput, Conflict) as error:
            return "", f"No patch: {error}."

    # -- looking

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
                runbooks=self.runbooks() if row.choose_token else (),
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

    def runbooks(self) -> tuple[str, ...]:
        """Names of the runbooks that load."""
        return self._adapters.shelf.valid()

    def healthy(self) -> Mapping[str, str]:
        """Name of each part that is unwell -> why. Empty when all is well."""
        unwell = dict(self._driver.unwell)
        checks = {
            "secrets": self._adapters.secrets.reachable,
            "libvirt": self._adapters.hypervisor.reachable,
            "database": self._database_answers,
        }
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
        found = {}
        if dead:
            found["outbox"] = f"{dead} messages could not be delivered; the incidents' pages show what they said"
        if rejected:
            found["inbox"] = f"{rejected} bodies of alerts made no sense; they are kept with their reasons"
        return found

    def _database_answers(self) -> None:
        with self._database.reading() as session:
            views.open_incidents(session)

    def metrics(self) -> Mapping[str, Mapping[str, int]]:
        """Counts for Prometheus: metric name -> label value (or empty) -> number."""
        with self._database.reading() as session:
            return {
                "incidents_open": {"": views.open_incidents(session)},
                "runs": views.run_counts(session),
                "outbox_rows": outbox.counts(session),
                "inbox_rejected": {"": inbox.rejected(session)},
            }

    # -- Slack's own tables: outbox, message references, seen clicks

    def outbox_due(self, limit: int = 20) -> tuple[OutboxItem, ...]:
        """Marks and returns rows to send now: the oldest of each lane, by priority. Each is ours until reported."""
        with self._database.transaction() as session:
            return outbox.due(session, self._adapters.clock.now(), limit)

    def outbox_sent(self, item: OutboxItem, refs: Mapping[str, MessageRef]) -> None:
        """The row was carried out; `refs` are message references to keep by key."""
        with self._database.transaction() as session:
            outbox.sent(session, item)
            for key, reference in refs.items():
                outbox.keep_ref(session, key, reference)

    def outbox_later(
        self, item: OutboxItem, reason: str, delay_s: float, *, ambiguous: bool, counted: bool = True
    ) -> None:
        """Try again in `delay_s`. `counted=False` (rate limited) does not use up a try."""
        at = self._adapters.clock.now() + timedelta(seconds=delay_s)
        with self._database.transaction() as session:
            outbox.later(session, item, reason, at, ambiguous=ambiguous, counted=counted)

    def outbox_dead(self, item: OutboxItem, reason: str) -> None:
        """Give up on this row; it stays, visible on the dashboard and in `doctor`."""
        with self._database.transaction() as session:
            outbox.dead(session, item, reason)

    def outbox_recover(self) -> None:
        """At start: rows that were being sent when we died are ambiguous now."""
        with self._database.transaction() as session:
            outbox.recover(session)

    def ref(self, key: str) -> MessageRef | None:
        """A kept message reference, e.g. `channel:<incident id>` (ts is empty), `card:<incident id>`."""
        with self._database.reading() as session:
            return outbox.ref(session, key)

    def keep_ref(self, key: str, ref: MessageRef) -> None:
        """Keep a message reference (idempotent)."""
        with self._database.transaction() as session:
            outbox.keep_ref(session, key, ref)

    def incident_at(self, channel: str) -> int | None:
        """The number of the incident whose channel this is."""
        with self._database.reading() as session:
            key = outbox.channel_key(session, channel)
        return int(key.removeprefix("channel:")) if key else None

    def first_time(self, key: str) -> bool:
        """Record a click, command or submission by its identity; False if it was there already (Slack re-sent it)."""
        with self._database.transaction() as session:
            return outbox.first_time(session, key, self._adapters.clock.now())

    # -- shared

    def _incident(self, session: Session, incident: int | str) -> models.Incident:
        text = str(incident).upper().removeprefix("INC-")
        row = incidents.get(session, int(text)) if text.isdigit() and len(text) < 10 else None
        if row is None:
            raise BadInput(f"there is no incident {incident}", "/signalbox list shows them")
        return row

    def _escalation(self, session: Session, token: str) -> models.Escalation:
        row = runs.escalation_by_token(session, token)
        if row is None:
            raise Conflict("this button is not known", "look at the incident's page")
        return row

    def _must_be_its_message(self, session: Session, key: str, at: MessageRef | None) -> None:
        """A click counts only on the message that we posted for it; without a message (CLI) the token alone counts."""
        ours = outbox.ref(session, key)
        if at is not None and ours is not None and (at.channel, at.ts) != (ours.channel, ours.ts):
            raise NotAllowed("this button is not on the message that was posted for it", "use the incident's channel")
