"""Modals: opened by a button or a command, submitted by a person. `front` registers the submissions.

`views.open` goes out at once, never through the outbox: its trigger lives three seconds. A submission that could not be
carried out comes back as the same form with a banner and a higher `tries`, so that sending it again is a new act.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck

from bot.crossing import ask
from bot.slack.desk import Desk, explain, first_time, in_time
from bot.slack.payloads import Submission
from bot.views import modals, story
from bot.views.limits import Json
from engine.domain.incident import MessageRef

STEP_PREFIX = "step:"
MAX_TITLE = 200


class RejectForm(BaseModel):
    """What the reject form carries."""

    token: str
    channel: str
    ts: str
    tries: int = 0


class NoteForm(BaseModel):
    """What the harness note carries."""

    number: int
    title: str
    tries: int = 0


async def open_reject(desk: Desk, trigger_id: str, token: str, at: MessageRef) -> None:
    """Open the form that asks why."""
    form = RejectForm(token=token, channel=at.channel, ts=at.ts)
    await desk.client.views_open(trigger_id=trigger_id, view=modals.reject(form.model_dump_json()))


async def open_note(desk: Desk, trigger_id: str, number: int) -> None:
    """Open the harness note; raises BadInput when there is no such incident."""
    incident = await ask(desk.service.incident, number)
    form = NoteForm(number=incident.number, title=incident.title[:MAX_TITLE])
    view = modals.note(form.number, form.title, story.note_steps(incident), form.model_dump_json())
    await desk.client.views_open(trigger_id=trigger_id, view=view)


def register(app: AsyncApp, desk: Desk) -> None:
    """Tell bolt about the submissions."""

    async def rejected(ack: AsyncAck, body: dict[str, Any]) -> None:
        await ack(**await submit_reject(desk, body))

    async def noted(ack: AsyncAck, body: dict[str, Any]) -> None:
        await ack(**await submit_note(desk, body))

    app.view("approval.reject")(rejected)
    app.view("note.write")(noted)


def _errors(**problems: str) -> Json:
    return {"response_action": "errors", "errors": problems}


async def submit_reject(desk: Desk, body: dict[str, Any]) -> Json:
    """The no, with its reason; returns how Slack shall answer the form."""
    sent = Submission.model_validate(body)
    form = RejectForm.model_validate_json(sent.view.private_metadata)
    reason = sent.text("reason")
    if not reason:
        return _errors(reason="Say why: whoever decides next will read it.")

    async def act() -> None:
        if await first_time(desk, sent.key):
            at = MessageRef(channel=form.channel, ts=form.ts)
            await ask(desk.service.approve, form.token, sent.user.person, yes=False, reason=reason, at=at)

    error = await in_time(act)
    if error is None:
        return {}
    again = form.model_copy(update={"tries": form.tries + 1}).model_dump_json()
    return {"response_action": "update", "view": modals.reject(again, reason=reason, banner=explain(error))}


async def submit_note(desk: Desk, body: dict[str, Any]) -> Json:
    """The harness note; returns how Slack shall answer the form."""
    sent = Submission.model_validate(body)
    form = NoteForm.model_validate_json(sent.view.private_metadata)
    marks = sent.choices(STEP_PREFIX)
    texts = {field: sent.text(field) for field, *_ in modals.NOTE_FIELDS}
    problems = {
        field: problem
        for field, problem in (("what", "Say what you saw."), ("rule", "One line that the next agent reads."))
        if not texts[field]
    }
    if problems:
        return _errors(**problems)

    async def act() -> None:
        if await first_time(desk, sent.key):
            await ask(desk.service.note, form.number, sent.user.person, steps=marks, **texts)

    error = await in_time(act)
    if error is None:
        return {}
    again = form.model_copy(update={"tries": form.tries + 1}).model_dump_json()
    # From what was sent, not from the database: that may be what is down.
    steps = [story.NoteStep(step, step.replace("-", " ")) for step in marks]
    view = modals.note(form.number, form.title, steps, again, marks=marks, texts=texts, banner=explain(error))
    return {"response_action": "update", "view": view}
