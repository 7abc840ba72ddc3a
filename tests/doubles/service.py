"""A front door without an engine: it remembers what it was asked and answers from what a test put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from engine.domain.alert import Severity
from engine.domain.errors import BadInput
from engine.domain.incident import (
    IncidentSummary,
    IncidentView,
    MessageRef,
    NoteView,
    OutboxItem,
    Person,
    SwitchView,
    Topic,
    WorkerView,
)
from engine.domain.journey import plan
from engine.domain.standing import Standing, standing
from engine.domain.states import Decision, RunState
from engine.service import Service
from tests.doubles import incidents as told
from tests.doubles.toy import toy_runbook


@dataclass
class Outcome:
    """What became of an outbox row."""

    state: str
    reason: str = ""
    delay_s: float = 0.0
    ambiguous: bool = False
    counted: bool = True


@dataclass
class Told:
    """One call of a verb."""

    verb: str
    args: dict[str, Any] = field(default_factory=dict)


class FakeService(Service):
    """`calls` are the verbs that arrived, in order. `fails[verb]` is raised instead of answering."""

    def __init__(self, *views: IncidentView) -> None:
        self.views = {view.number: view for view in views}
        self.calls: list[Told] = []
        self.fails: dict[str, BaseException] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.refs: dict[str, MessageRef] = {}
        self.seen: set[str] = set()
        self.due: list[OutboxItem] = []
        self.outcomes: dict[str, list[Outcome]] = {}
        self.known_deliveries: set[bytes] = set()
        self.unwell: dict[str, str] = {}
        self.recovered = False
        self.switch = SwitchView(on=False)
        self.living: tuple[WorkerView, ...] = ()

    def _asked(self, verb: str, **args: Any) -> None:
        if verb in self.before:
            self.before[verb]()
        if verb in self.fails:
            raise self.fails[verb]
        self.calls.append(Told(verb, args))

    def asked(self, verb: str) -> list[dict[str, Any]]:
        """The arguments of every call of this verb."""
        return [call.args for call in self.calls if call.verb == verb]

    # -- alerts in

    def receive(self, source: str, headers: Mapping[str, str], body: bytes) -> bool:
        self._asked("receive", source=source, headers=dict(headers), body=body)
        new = body not in self.known_deliveries
        self.known_deliveries.add(body)
        return new

    # -- reading

    def standing(self, run_id: str) -> Standing:
        self._asked("standing", run_id=run_id)
        return standing(
            plan(toy_runbook()), run=run_id, incident=12, runbook="toy", state=RunState.RUNNING, leg="diagnose"
        )

    # -- people

    def _any(self) -> IncidentView:
        return next(iter(self.views.values()))

    def declare(self, person: Person, title: str, severity: Severity, runbook: str | None) -> IncidentView:
        self._asked("declare", person=person, title=title, severity=severity, runbook=runbook)
        return replace(told.incident(), number=13, title=title, runs=())

    def choose_runbook(self, token: str, person: Person, runbook: str) -> IncidentView:
        self._asked("choose_runbook", token=token, person=person, runbook=runbook)
        return self._any()

    def approve(
        self, token: str, person: Person, *, yes: bool, reason: str = "", at: MessageRef | None = None
    ) -> IncidentView:
        self._asked("approve", token=token, person=person, yes=yes, reason=reason, at=at)
        return self._any()

    def decide(
        self, token: str, person: Person, decision: Decision, *, reason: str = "", at: MessageRef | None = None
    ) -> IncidentView:
        self._asked("decide", token=token, person=person, decision=decision, reason=reason, at=at)
        return self._any()

    def extend(self, token: str, person: Person, *, at: MessageRef | None = None) -> IncidentView:
        self._asked("extend", token=token, person=person, at=at)
        return self._any()

    def throw_kill_switch(self, person: Person, *, on: bool, reason: str = "") -> SwitchView:
        self._asked("throw_kill_switch", person=person, on=on, reason=reason)
        self.switch = SwitchView(on=on, by=person, at=told.T0, reason=reason)
        return self.switch

    def abandon(self, number: int, person: Person, reason: str) -> IncidentView:
        self._asked("abandon", number=number, person=person, reason=reason)
        return self._by_number(number)

    def close(self, number: int, person: Person) -> IncidentView:
        self._asked("close", number=number, person=person)
        return self._by_number(number)

    def note(
        self, number: int, person: Person, *, steps: Mapping[str, str], what: str, change: str, rule: str
    ) -> NoteView:
        self._asked("note", number=number, person=person, steps=dict(steps), what=what, change=change, rule=rule)
        return told.NOTE

    # -- looking

    def _by_number(self, number: int) -> IncidentView:
        try:
            return self.views[number]
        except KeyError:
            raise BadInput(f"there is no incident {number}", "/signalbox list shows them") from None

    def incidents(self, *, only_open: bool = False, limit: int = 50) -> tuple[IncidentSummary, ...]:
        self._asked("incidents", only_open=only_open, limit=limit)
        return tuple(told.summary(number, title=view.title) for number, view in self.views.items())

    def incident(self, incident: int | str) -> IncidentView:
        self._asked("incident", incident=incident)
        if isinstance(incident, int):
            return self._by_number(incident)
        return next(view for view in self.views.values() if view.id == incident)

    def runbooks(self) -> tuple[str, ...]:
        self._asked("runbooks")
        return ("disk-full", "cert-expired")

    def healthy(self) -> Mapping[str, str]:
        self._asked("healthy")
        return self.unwell

    def kill_switch(self) -> SwitchView:
        self._asked("kill_switch")
        return self.switch

    def workers(self) -> tuple[WorkerView, ...]:
        self._asked("workers")
        return self.living

    def metrics(self) -> Mapping[str, Mapping[str, int]]:
        self._asked("metrics")
        return {"incidents_open": {"": 1}, "runs": {"halted": 2}, "outbox_rows": {"pending": 3, "dead": 0}}

    # -- Slack's own tables

    def outbox_due(self, limit: int = 20) -> tuple[OutboxItem, ...]:
        self._asked("outbox_due", limit=limit)
        items, self.due = tuple(self.due[:limit]), self.due[limit:]
        return items

    def _became(self, item: OutboxItem, outcome: Outcome) -> None:
        self.outcomes.setdefault(item.key, []).append(outcome)

    def outbox_sent(self, item: OutboxItem, refs: Mapping[str, MessageRef]) -> None:
        self._asked("outbox_sent", item=item)
        self.refs.update(refs)
        self._became(item, Outcome("sent"))

    def outbox_later(
        self, item: OutboxItem, reason: str, delay_s: float, *, ambiguous: bool, counted: bool = True
    ) -> None:
        self._asked("outbox_later", item=item)
        self._became(item, Outcome("later", reason, delay_s, ambiguous, counted))

    def outbox_dead(self, item: OutboxItem, reason: str) -> None:
        self._asked("outbox_dead", item=item)
        self._became(item, Outcome("dead", reason))

    def outbox_recover(self) -> None:
        self._asked("outbox_recover")
        self.recovered = True

    def ref(self, key: str) -> MessageRef | None:
        self._asked("ref", key=key)
        return self.refs.get(key)

    def refs_under(self, prefix: str) -> Mapping[str, MessageRef]:
        self._asked("refs_under", prefix=prefix)
        return {key: ref for key, ref in self.refs.items() if key.startswith(prefix)}

    def keep_ref(self, key: str, ref: MessageRef) -> None:
        self._asked("keep_ref", key=key, ref=ref)
        self.refs[key] = ref

    def incident_at(self, channel: str) -> int | None:
        self._asked("incident_at", channel=channel)
        keys = [key for key, ref in self.refs.items() if key.startswith("channel:") and ref.channel == channel]
        return next((view.number for view in self.views.values() if f"channel:{view.id}" in keys), None)

    def first_time(self, key: str) -> bool:
        self._asked("first_time", key=key)
        new = key not in self.seen
        self.seen.add(key)
        return new


def row(topic: Topic, subject: str, incident_id: str = "inc-a1", **changes: Any) -> OutboxItem:
    """An outbox row as the front door hands it out."""
    made = OutboxItem(
        id=1,
        key=f"{topic}:{subject}",
        lane=f"incident:{incident_id}",
        topic=topic,
        incident_id=incident_id,
        subject=subject,
        attempts=0,
        ambiguous=False,
        created_at=datetime.now(UTC),
    )
    return replace(made, **changes)
