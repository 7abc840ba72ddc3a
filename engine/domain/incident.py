"""What people are shown of an incident: read models that the front door hands to the bot, the pages and the CLI."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from engine.domain.alert import Severity
from engine.domain.gate import Json
from engine.domain.states import ApprovalState, AttemptState, Decision, IncidentState, RunState, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who acts. `id` is the Slack user id (or `cli:NAME`)."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One try of a step. `printed`: the end of both streams so far, until `stdout` and `stderr` are there."""

    id: str
    leg: str
    target: str | None
    state: AttemptState
    started_at: datetime
    ended_at: datetime | None
    reason: str
    stdout: str
    stderr: str
    output: Json
    content_digest: str
    artefact_digest: str | None
    connections: Json
    printed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckView:
    """What one check of a gate found. `samples` is the redacted evidence."""

    check_id: str
    type: str
    definition: str
    verdict: Verdict
    why: str
    samples: Json
    independent: bool
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """What one gate found."""

    id: str
    leg: str
    of: str
    verdict: Verdict
    why: str
    checks: tuple[CheckView, ...]
    begun_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """What an approval binds, for a person to read: plain name -> value, and the digests."""

    content_digest: str
    order_digest: str
    lines: Mapping[str, str]
    preview: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalView:
    """One asked-for yes. `token` is the opaque value of its buttons, good once. `extended_by` gave it more time.

    `of_a_call`: to one call of an agent, not to a change.
    """

    id: str
    leg: str
    state: ApprovalState
    token: str
    order: OrderView
    requested_at: datetime
    expires_at: datetime
    decided_by: Person | None
    decided_at: datetime | None
    reason: str
    may_approve: tuple[str, ...]
    extended_by: Person | None = None
    of_a_call: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationView:
    """One halt that a person must decide. `options` are the decisions that are possible here, `may_decide` by whom.

    `at_it`: who said so and put the reminders off until `remind_at`. `expired_at`: it was put anew as another question.
    """

    id: str
    leg: str
    why: str
    remedy: str
    mention: str
    may_decide: tuple[str, ...]
    options: tuple[Decision, ...]
    token: str
    raised_at: datetime
    decided: Decision | None
    decided_by: Person | None
    decided_at: datetime | None
    reason: str
    remind_at: datetime | None = None
    expired_at: datetime | None = None
    at_it: Person | None = None

    @property
    def is_open(self) -> bool:
        """Whether it still waits for its answer."""
        return self.decided is None and self.expired_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LegView:
    """One leg as the card shows it. `mark`: todo, doing, done, held, failed, inconclusive, error, waiting, skipped."""

    id: str
    kind: str
    title: str
    mark: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run with everything that happened in it."""

    id: str
    runbook: str
    runbook_digest: str
    state: RunState
    leg: str
    waits_for: str
    started_at: datetime
    ended_at: datetime | None
    inputs: Mapping[str, str]
    legs: tuple[LegView, ...]
    attempts: tuple[AttemptView, ...]
    verdicts: tuple[VerdictView, ...]
    approvals: tuple[ApprovalView, ...]
    escalations: tuple[EscalationView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One append-only row: what happened, when, by whom. `id` counts from 1 in its incident; `text` is for a person."""

    id: int
    at: datetime
    kind: str
    actor: str
    text: str
    detail: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteView:
    """A harness note: step by step followed, drifted or skipped, what to change, and the patch that came of it."""

    id: str
    by: Person
    at: datetime
    steps: Mapping[str, str]
    what: str
    change: str
    rule: str
    patch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """One alert of the incident as it last came."""

    source: str
    name: str
    status: str
    severity: Severity
    title: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime | None
    link: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """Everything about one incident."""

    id: str
    number: int
    title: str
    severity: Severity
    state: IncidentState
    opened_at: datetime
    closed_at: datetime | None
    opened_by: str
    choose_token: str | None
    runbooks: tuple[str, ...]
    alerts: tuple[AlertView, ...]
    runs: tuple[RunView, ...]
    events: tuple[EventView, ...]
    notes: tuple[NoteView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentSummary:
    """One line of a list."""

    id: str
    number: int
    title: str
    severity: Severity
    state: IncidentState
    opened_at: datetime
    closed_at: datetime | None
    run_state: RunState | None
    runbook: str | None
    leg: str | None
    waits_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchView:
    """How the kill switch stands, and who left it so."""

    on: bool
    by: Person | None = None
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One worker that nobody thinks dead: it drives up to `concurrency` runs of its pool at once.

    `alive_until` is None where it lives and dies with the one process that does everything (SQLite).
    """

    id: str
    pool: str
    concurrency: int
    since: datetime
    alive_until: datetime | None


class Topic(enum.StrEnum):
    """What an outbox row is about; the bot has one way to render each. `subject` names the row it speaks of."""

    CARD = "card"
    """ The incident's card: one message, edited in place. Subject: incident id. Coalesced. """

    FEED = "feed"
    """ The incident's line in the feed channel, edited in place; with a runbook chooser while it has no run. """

    LEG_REPORTED = "leg_reported"
    """ An attempt began or ended. Goes to the card's thread. Subject: attempt id. """

    GATE_REPORTED = "gate_reported"
    """ A gate's outcome with its evidence, in the channel. Subject: verdict id. """

    APPROVAL = "approval"
    """ An approval: asked (new message with a mention and buttons), later edited to its outcome. Subject: its id. """

    ESCALATION = "escalation"
    """ A halt: asked (new message with a mention and buttons), later edited to the decision. Subject: its id. """

    APPROVAL_REMINDER = "approval_reminder"
    """ An approval is about to expire: a new message that mentions who may answer. Subject: the approval's id. """

    ESCALATION_REMINDER = "escalation_reminder"
    """ A halt that nobody decided: a new message with a mention, in the channel and the feed. Subject: its id. """

    ALERT_CHANGED = "alert_changed"
    """ The source resolved or re-fired. Subject: the event's id. """

    RUN_ENDED = "run_ended"
    """ The summary with timeline, and the offer of a harness note. Subject: run id. """

    NOTE_WRITTEN = "note_written"
    """ A harness note and what became of it. Subject: note id. """


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxItem:
    """One thing to tell people. Rows of a lane leave in order; `attempts` counts earlier tries of this row.

    `ambiguous`: the last try may have been carried out; look before sending again.
    """

    id: int
    key: str
    lane: str
    topic: Topic
    incident_id: str
    subject: str
    attempts: int
    ambiguous: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRef:
    """Where a message lives in Slack."""

    channel: str
    ts: str
