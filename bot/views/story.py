"""What happened, in plain words: small questions to the read models that Slack views and pages both ask.

Everything here returns raw text (unescaped): the templates escape it for where it goes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from engine.domain.gate import Json
from engine.domain.incident import (
    ApprovalView,
    AttemptView,
    CheckView,
    EscalationView,
    EventView,
    IncidentSummary,
    IncidentView,
    LegView,
    NoteView,
    RunView,
    VerdictView,
)
from engine.domain.states import FINAL, ApprovalState, AttemptState, IncidentState, RunState, Verdict

ONLY_ON_THE_PAGE = frozenset({"Artefact", "Content", "Runbook", "Evidence"})
""" Lines of an order that are digests and ids: nobody judges them on a phone, so Slack leaves them to the page. """

STATE_WORDS = {
    RunState.NEW: "about to start",
    RunState.QUEUED: "about to go on",
    RunState.RUNNING: "running",
    RunState.JUDGING: "measuring",
    RunState.AWAITING_APPROVAL: "waits for approval",
    RunState.HALTED: "halted",
    RunState.COMPLETED: "completed",
    RunState.ROLLED_BACK: "rolled back",
    RunState.TAKEN_OVER: "taken over",
    RunState.ABANDONED: "abandoned",
}
VERDICT_WORDS = {
    Verdict.HELD: "held",
    Verdict.FAILED: "failed",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.ERROR: "could not be measured",
}
ATTEMPT_WORDS = {
    AttemptState.STARTED: "is running",
    AttemptState.FINISHED: "finished",
    AttemptState.FAILED: "failed",
    AttemptState.PAUSED: "paused at a call that takes a person's yes",
    AttemptState.LOST: "was lost with its worker",
    AttemptState.UNKNOWN: "ended with an unknown outcome",
}
APPROVAL_WORDS = {
    ApprovalState.PENDING: "Approval needed",
    ApprovalState.APPROVED: "Approved",
    ApprovalState.CONSUMED: "Approved, and started",
    ApprovalState.REJECTED: "Rejected",
    ApprovalState.EXPIRED: "Expired: nobody answered in time",
    ApprovalState.VOIDED: "Void: the order changed after it was shown",
}
DECISION_WORDS = {
    "retry": "Retry",
    "roll_back": "Roll back",
    "take_over": "Take over",
    "abandon": "Abandon",
}
ENDING_WORDS = {
    RunState.COMPLETED: "Every gate held, the run is complete.",
    RunState.ROLLED_BACK: "The change was undone, and the gate after the rollback held.",
    RunState.TAKEN_OVER: "A person took over; automation has ended for this run.",
    RunState.ABANDONED: "A person ended the run.",
}
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
NOTE_MARKS = ("followed", "drifted", "skipped")


def current(incident: IncidentView) -> RunView | None:
    """The incident's latest run."""
    return max(incident.runs, key=lambda run: run.started_at, default=None)


def leg(run: RunView, leg_id: str | None = None) -> LegView | None:
    """A leg of the run: the one it stands at, unless another is named."""
    wanted = run.leg if leg_id is None else leg_id
    return next((leg for leg in run.legs if leg.id == wanted), None)


def leg_name(run: RunView, leg_id: str | None = None) -> str:
    """A leg's title, or its id when it has none."""
    found = leg(run, leg_id)
    return (found.title if found else "") or (run.leg if leg_id is None else leg_id)


def open_question(run: RunView) -> ApprovalView | EscalationView | None:
    """What a person is asked right now."""
    asked: list[ApprovalView | EscalationView] = [a for a in run.approvals if a.state is ApprovalState.PENDING]
    asked += [escalation for escalation in run.escalations if escalation.is_open]
    return asked[-1] if asked and run.state not in FINAL else None


def _halted(run: RunView) -> str:
    question = open_question(run)
    why = question.why if isinstance(question, EscalationView) else "a person must decide"
    return f"Halted at {leg_name(run)}: {why}"


def now(incident: IncidentView) -> str:
    """What is going on, in one sentence."""
    run = current(incident)
    if run is None:
        closed = incident.state is IncidentState.CLOSED
        return "Closed without a run." if closed else "Waits for a person to pick a runbook."
    if run.state in FINAL:
        took = f" It took {took_between(run.started_at, run.ended_at)}." if run.ended_at else ""
        return ENDING_WORDS[run.state] + took
    name = leg_name(run)
    sentences = {
        RunState.RUNNING: f"{name} runs in a VM of its own",
        RunState.JUDGING: f"{name} is being measured",
        RunState.AWAITING_APPROVAL: f"{name} waits for a person's yes",
        RunState.HALTED: _halted(run),
    }
    waits = f"{name} waits for {run.waits_for}" if run.waits_for else f"Next: {name}"
    return sentences.get(run.state, waits)


def tested(run: RunView, approval: ApprovalView) -> VerdictView | None:
    """The gate that held last before this approval was asked for."""
    held = [v for v in run.verdicts if v.verdict is Verdict.HELD and v.ended_at <= approval.requested_at]
    return max(held, key=lambda verdict: verdict.ended_at, default=None)


def judged(run: RunView, verdict: VerdictView) -> AttemptView | None:
    """The attempt that a gate judged: the last one of its step that had ended before."""
    before = [
        each
        for each in run.attempts
        if verdict.of in {each.leg, each.leg.partition(":")[0]} and each.ended_at and each.ended_at <= verdict.begun_at
    ]
    return max(before, key=lambda each: each.started_at, default=None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Connections that a step tried and that were refused, all for one reason."""

    where: str
    times: int
    why: str


def refused(attempt: AttemptView | None) -> tuple[Refusal, ...]:
    """What an attempt tried to reach and may not, each once, those tried most first."""
    rows = attempt.connections if attempt else None
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("allowed") is False:
            times, port = row.get("count", 1), row.get("port")  # one by one in what older releases recorded
            where = f"{row.get('host')}:{port}" if port else str(row.get("host"))
            counts[where, str(row.get("error") or "")] += times if isinstance(times, int) else 1
    return tuple(Refusal(where, times, why) for (where, why), times in counts.most_common())


def refused_calls(incident: IncidentView, attempt: AttemptView) -> tuple[str, ...]:
    """What the agent of an attempt asked for and may not do, each with why, as they came."""
    own = [
        event.text
        for event in incident.events
        if event.kind == "agent_refused"
        and isinstance(event.detail, dict)
        and event.detail.get("attempt") == attempt.id
    ]
    return tuple(text.removeprefix(f"{attempt.leg}: ") for text in own)


def tally(verdict: VerdictView) -> str:
    """How many checks of a gate held."""
    counted = [check for check in verdict.checks if not check.shadow]
    held = sum(check.verdict is Verdict.HELD for check in counted)
    return f"{held} of {len(counted)} checks held"


def measured(check: CheckView) -> str:
    """What a check saw last, compact."""
    samples = check.samples
    if isinstance(samples, list) and samples:
        last = samples[-1]
        seen = last.get("seen") if isinstance(last, dict) and "seen" in last else last
    else:
        seen = samples
    return compact(seen)


def compact(value: Json) -> str:
    """A JSON value on one line, digests shortened; nothing for nothing."""
    if value is None or value in ("", [], {}):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return _DIGEST.sub(r"\1…", text)


def pretty(value: Json) -> str:
    """A JSON value for reading."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


@dataclass(frozen=True, slots=True)
class NoteStep:
    """A step that a harness note speaks of."""

    id: str
    title: str


def note_steps(incident: IncidentView) -> tuple[NoteStep, ...]:
    """The steps of the latest run, once each, in order (a rehearsed step has several legs)."""
    run = current(incident)
    steps: dict[str, NoteStep] = {}
    for each in run.legs if run else ():
        step_id = each.id.partition(":")[0]
        title = each.title if ":" not in each.id else step_id
        if step_id not in steps or ":" not in each.id:
            steps[step_id] = NoteStep(step_id, title or step_id)
    return tuple(steps.values())


def took_between(start: datetime, end: datetime) -> str:
    """How long something took: `42 s`, `3 min 5 s`, `2 h 4 min`."""
    seconds = max(0, int((end - start).total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def for_how_long(since: datetime, now: datetime) -> str:
    """How long something has lasted, to the minute: `46 min`, `2 h 4 min`."""
    minutes = max(0, int((now - since).total_seconds() // 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def left(until: datetime, now: datetime) -> str:
    """How long until then, for a person: `now`, `in 4 min`, `in 1 h 20 min`."""
    if (until - now).total_seconds() < 60:
        return "in less than a minute" if until > now else "now"
    return f"in {for_how_long(now, until)}"


def took(attempt: AttemptView) -> str:
    """How long an attempt took; nothing while it runs."""
    return took_between(attempt.started_at, attempt.ended_at) if attempt.ended_at else ""


def tail(text: str, lines: int = 12) -> str:
    """The last lines of an output."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def parts(lines: Sequence[str], size: int = 2700) -> list[list[str]]:
    """At most two sections' worth of lines; the second takes all the rest (and is cut where it is shown)."""
    length = 0
    for position, line in enumerate(lines):
        length += len(line) + 1
        if length > size:
            return [list(lines[:position]), list(lines[position:])]
    return [list(lines)] if lines else []


def state_words(state: RunState | None) -> str:
    """A run's state for a person."""
    return STATE_WORDS[state] if state else "no run"


def verdict_words(verdict: Verdict) -> str:
    """A verdict for a person."""
    return VERDICT_WORDS[verdict]


def attempt_words(state: AttemptState) -> str:
    """An attempt's state for a person."""
    return ATTEMPT_WORDS[state]


def ending_words(state: RunState) -> str:
    """How a run ended, for a person."""
    return ENDING_WORDS.get(state, f"The run is {STATE_WORDS[state]}.")


def approval_words(state: ApprovalState) -> str:
    """An approval's state for a person."""
    return APPROVAL_WORDS[state]


def decision_words(decision: str) -> str:
    """A decision for a person."""
    return DECISION_WORDS.get(decision, decision)


def summary_words(summary: IncidentSummary) -> str:
    """What one line of a list says after the title."""
    if summary.waits_for and summary.state is IncidentState.OPEN:
        return f"waits for {summary.waits_for}"
    where = f" at {summary.leg}" if summary.leg and summary.run_state not in FINAL else ""
    return state_words(summary.run_state) + where


class _Named(Protocol):
    @property
    def id(self) -> object: ...


N = TypeVar("N", bound=_Named)


def _named(things: Iterable[N], subject: str) -> N:
    for thing in things:
        if str(thing.id) == subject:
            return thing
    raise LookupError(subject)


def _in_runs(incident: IncidentView, subject: str, things: Callable[[RunView], Iterable[N]]) -> tuple[RunView, N]:
    for run in incident.runs:
        for thing in things(run):
            if str(thing.id) == subject:
                return run, thing
    raise LookupError(subject)


def attempt(incident: IncidentView, subject: str) -> tuple[RunView, AttemptView]:
    """An attempt by id, with its run; raises LookupError."""
    return _in_runs(incident, subject, lambda run: run.attempts)


def verdict(incident: IncidentView, subject: str) -> tuple[RunView, VerdictView]:
    """A gate's outcome by id, with its run; raises LookupError."""
    return _in_runs(incident, subject, lambda run: run.verdicts)


def approval(incident: IncidentView, subject: str) -> tuple[RunView, ApprovalView]:
    """An approval by id, with its run; raises LookupError."""
    return _in_runs(incident, subject, lambda run: run.approvals)


def escalation(incident: IncidentView, subject: str) -> tuple[RunView, EscalationView]:
    """An escalation by id, with its run; raises LookupError."""
    return _in_runs(incident, subject, lambda run: run.escalations)


def run(incident: IncidentView, subject: str) -> RunView:
    """A run by id; raises LookupError."""
    return _named(incident.runs, subject)


def is_fine_print(event: EventView) -> bool:
    """What the record on the page has and a summary in Slack does not need: acts with secrets, and the like."""
    return event.kind.startswith("secret_") or event.kind in {"leg_passed", "judging_started"}


def event(incident: IncidentView, subject: str) -> EventView:
    """An event by id; raises LookupError."""
    return _named(incident.events, subject)


def note(incident: IncidentView, subject: str) -> NoteView:
    """A harness note by id; raises LookupError."""
    return _named(incident.notes, subject)
