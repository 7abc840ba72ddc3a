"""The front door: what the bot may ask of the engine. Each call is one transaction (or one read).

Synchronous; the bot crosses by `asyncio.to_thread`. Errors are those of `engine.domain.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.coordination import closing, decisions, opening, stopping, timing
from engine.coordination.approvals import must_be_pending
from engine.domain.alert import Severity
from engine.domain.errors import BadInput, Conflict, NotAllowed, Refused
from engine.domain.harness import NoteDraft
from engine.domain.incident import IncidentView, MessageRef, NoteView, Person, SwitchView, Topic
from engine.domain.ports import Harness
from engine.domain.records import said
from engine.domain.states import Decision
from engine.orchestration.adapters import Adapters
from engine.orchestration.watch import Watch
from engine.orchestration.worker import Worker
from engine.service.looking import Looking
from engine.service.mail import Mail
from engine.service.people import People
from engine.store import chain, evidence, inbox, incidents, models, outbox, questions, runs, views
from engine.store.ids import new_id
from engine.store.session import Database, Session

__all__ = ["People", "Service"]

MAX_TITLE = 200
MAX_NOTE = 4000


class Service(Looking, Mail):
    """The verbs of Signalbox. `worker`: the one of this process, if it drives runs."""

    def __init__(
        self,
        database: Database,
        adapters: Adapters,
        watch: Watch,
        worker: Worker | None,
        people: People,
        harness: Harness,
    ) -> None:
        self._database = database
        self._adapters = adapters
        self._watch = watch
        self._worker = worker
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
        self._watch.poke()
        return new

    # -- people

    def declare(self, person: Person, title: str, severity: Severity, runbook: str | None) -> IncidentView:
        """Open an incident by hand; with a run, by who may decide. Raises BadInput (empty title, unknown runbook),
        Refused (it is not activated as it is)."""
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
            chain.append(
                session,
                number=incident.number,
                run_id=None,
                at=now,
                kind="incident_declared",
                actor=person.id,
                text=f"{person.name or person.id} declared: {title}",
                detail=said(evidence.incident(incident)),
            )
            outbox.refresh(session, incident.number, now)
            if snapshot is not None:
                self._must_be_activated(session, snapshot)
                opening.open_run(session, incident, snapshot, None, chosen_by=person.id, now=now)
        return self.incident(incident.number)

    def choose_runbook(self, token: str, person: Person, runbook: str) -> IncidentView:
        """Start a run of this runbook for an incident that has none. Raises Conflict when one is there already, Refused
        when the runbook is not activated as it is."""
        decisions.must_be_allowed(person, self._people.approvers)
        snapshot = self._adapters.shelf.read(runbook)
        now = self._adapters.clock.now()
        with self._database.transaction() as session:
            incident = incidents.by_choose_token(session, token)
            if incident is None or runs.active(session, incident.number) is not None:
                raise Conflict("a runbook was chosen already, or this chooser is not known", "look at the incident")
            self._must_be_activated(session, snapshot)
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
            run = runs.whole(session, must_be_pending(session, token).run_id)
        snapshot, journey = self._adapters.snapshot(run)
        world = self._adapters.world(snapshot)
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
            run = runs.whole(session, self._escalation(session, token).run_id)
        snapshot, journey = self._adapters.snapshot(run)
        world = self._adapters.world(snapshot)
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
        if run is not None and self._worker is not None:  # a worker elsewhere sees it within a beat
            self._worker.driver.running.stop(run.id)
        return self.incident(number)

    def extend(self, token: str, person: Person, *, at: MessageRef | None = None) -> IncidentView:
        """Give an approval more time, or put off the reminders of an escalation. It may be asked on a reminder too.

        Raises NotAllowed, Conflict (decided meanwhile; or an approval whose evidence would grow too old).
        """
        decisions.must_be_allowed(person, self._people.approvers)
        now = self._adapters.clock.now()
        with self._database.transaction() as session:
            raised = questions.escalation_by_token(session, token)
            if raised is not None:
                self._must_be_its_message(session, f"escalation:{raised.id}", at, or_reminder=True)
                run = runs.get(session, raised.run_id)
                timing.put_off(session, run, decisions.must_be_open(raised), person, now)
            else:
                approval = must_be_pending(session, token)
                self._must_be_its_message(session, f"approval:{approval.id}", at, or_reminder=True)
                run = runs.get(session, approval.run_id)
                journey = self._adapters.snapshot(run)[1]
                timing.extend(session, run, approval, journey, person, now)
        return self.incident(run.incident_number)

    def throw_kill_switch(self, person: Person, *, on: bool, reason: str = "") -> SwitchView:
        """On: nothing starts any more, and what runs is stopped. It stays so until somebody lets things go on.

        Raises NotAllowed; Conflict when it stands so already.
        """
        decisions.must_be_allowed(person, self._people.approvers)
        now = self._adapters.clock.now()
        with self._database.transaction() as session:
            stopping.throw(session, on=on, person=person, reason=reason, now=now)
        if on and self._worker is not None:
            self._worker.driver.running.stop_all()
        return self.kill_switch()

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
            chain.append(
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
            history = [runs.whole(session, run.id) for run in view.runs[-1:]]
        if not history:
            return "", "No patch: the incident had no run, so nothing was recorded to test against."
        try:
            return self._harness.patch(draft, view, self._adapters.snapshot(history[-1])[1]), ""
        except (BadInput, Conflict) as error:
            return "", f"No patch: {error}."

    # -- shared

    def _escalation(self, session: Session, token: str) -> models.Escalation:
        row = questions.escalation_by_token(session, token)
        if row is None:
            raise Conflict("this button is not known", "look at the incident's page")
        return row

    def _must_be_its_message(
        self, session: Session, key: str, at: MessageRef | None, *, or_reminder: bool = False
    ) -> None:
        """A click counts only on the message that we posted for it; without a message (CLI) the token alone counts.

        The keys of a question's reminders begin with its own.
        """
        ours = {outbox.ref(session, key)} - {None}
        if or_reminder:
            ours |= set(outbox.refs(session, f"{key}:").values())
        if at is not None and ours and at not in ours:
            raise NotAllowed("this button is not on the message that was posted for it", "use the incident's channel")
