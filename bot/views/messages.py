"""Every message that Slack shows, one function each. The outbox sender and the slash command call these.

Each returns a checked `Message`; `TooMuch` means a fault of ours. `base` is where people reach the dashboard.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bot.views import story
from bot.views.escape import mention, mrkdwn, when
from bot.views.render import Message, message
from engine.domain.incident import (
    ApprovalView,
    AttemptView,
    EscalationView,
    EventView,
    IncidentSummary,
    IncidentView,
    NoteView,
    RunView,
    SwitchView,
    VerdictView,
)


def url(base: str, incident: IncidentView | IncidentSummary) -> str:
    """The incident's page."""
    return f"{base.rstrip('/')}/incidents/{incident.number}"


def card(incident: IncidentView, switch: SwitchView, base: str) -> Message:
    """What is going on now, and the legs as a checklist."""
    return message("card.json.j2", incident=incident, stopped=stopped(switch), url=url(base, incident))


def feed(incident: IncidentView, base: str, channel: str | None) -> Message:
    """The incident's line in the feed; `channel` is the id of its own channel, if it has one."""
    return message("feed.json.j2", incident=incident, url=url(base, incident), channel=channel)


def attempt(incident: IncidentView, run: RunView, attempt: AttemptView, base: str) -> Message:
    """An attempt began or ended."""
    page = f"{url(base, incident)}/attempts/{attempt.id}"
    return message("attempt.json.j2", incident=incident, run=run, attempt=attempt, url=page)


def gate(incident: IncidentView, run: RunView, verdict: VerdictView, base: str) -> Message:
    """A gate's outcome, check by check."""
    return message("gate.json.j2", incident=incident, run=run, verdict=verdict, url=url(base, incident))


def approval(incident: IncidentView, run: RunView, approval: ApprovalView, base: str) -> Message:
    """An approval: asked, or decided."""
    return message("approval.json.j2", incident=incident, run=run, approval=approval, url=url(base, incident))


def escalation(incident: IncidentView, run: RunView, escalation: EscalationView, base: str) -> Message:
    """A halt: asked, or decided."""
    return message("escalation.json.j2", incident=incident, run=run, escalation=escalation, url=url(base, incident))


def approval_reminder(
    incident: IncidentView, run: RunView, approval: ApprovalView, *, link: str, now: datetime
) -> Message:
    """It is about to expire. `link`: where the question stands, with its buttons."""
    return message("approval_reminder.json.j2", incident=incident, run=run, approval=approval, link=link, now=now)


def escalation_reminder(
    incident: IncidentView, run: RunView, escalation: EscalationView, *, link: str, now: datetime, named: bool
) -> Message:
    """Nobody decided yet. `link`: where the question stands; `named`: say which incident, for the feed."""
    return message(
        "escalation_reminder.json.j2",
        incident=incident,
        run=run,
        escalation=escalation,
        link=link,
        now=now,
        named=named,
    )


def alert_changed(event: EventView) -> Message:
    """The source resolved or re-fired."""
    return message("alert_changed.json.j2", event=event)


def run_ended(incident: IncidentView, run: RunView, base: str) -> Message:
    """What happened, with its timeline."""
    return message("run_ended.json.j2", incident=incident, run=run, url=url(base, incident))


def note_written(incident: IncidentView, note: NoteView, base: str) -> Message:
    """A harness note and its patch."""
    return message("note_written.json.j2", incident=incident, note=note, url=url(base, incident))


def incidents(summaries: Sequence[IncidentSummary], switch: SwitchView, base: str) -> Message:
    """The answer to `/signalbox list`."""
    return message("list.json.j2", incidents=summaries, stopped=stopped(switch), base=base.rstrip("/"))


def stopped(switch: SwitchView) -> str:
    """That the kill switch is on, by whom, since when and why, in mrkdwn; nothing while it is off."""
    if not switch.on:
        return ""
    who = mention(switch.by.id) if switch.by else "somebody"
    since = f" {when(switch.at)}" if switch.at else ""
    why = f": {mrkdwn(switch.reason, 200)}" if switch.reason else ""
    return f"⛔ *The kill switch is on*, thrown by {who}{since}{why}. Nothing starts until `/signalbox resume`."


def thrown(switch: SwitchView) -> Message:
    """The answer to whoever threw the kill switch, or took it back."""
    off = "✔️ The kill switch is off: things go on. A step that was stopped midway asks a person."
    return Message(stopped(switch) or off, ())


def usage(lines: Sequence[str], base: str, problem: str = "") -> Message:
    """The answer to `/signalbox help`; `problem` says what was not understood."""
    return message("help.json.j2", usage=lines, base=base.rstrip("/"), problem=problem)


def bare(incident: IncidentView, what: str, base: str) -> Message:
    """One line without blocks, for when a message cannot be drawn: it must reach a person all the same."""
    now = mrkdwn(story.now(incident), 600)
    title = mrkdwn(incident.title, 200)
    return Message(f"#{incident.number} {title}: {mrkdwn(what, 100)}. {now} {url(base, incident)}", ())
