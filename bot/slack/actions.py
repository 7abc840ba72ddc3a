"""Buttons and selects: one function an `action_id`. `front` registers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.respond.async_respond import AsyncRespond

from bot.crossing import ask
from bot.slack import forms
from bot.slack.desk import Desk, answer_privately, explain, first_time, in_time
from bot.slack.payloads import Click
from engine.domain.errors import BadInput
from engine.domain.states import Decision

Act = Callable[[Desk, Click], Awaitable[None]]
CHOOSE_PREFIX = "choose:"


def register(app: AsyncApp, desk: Desk) -> None:
    """Tell bolt about every element that we send."""
    _on(app, desk, "approval.approve", approve)
    _on(app, desk, "approval.reject", open_reject)
    _on(app, desk, "approval.extend", extend)
    _on(app, desk, "escalation.extend", extend)
    _on(app, desk, "runbook.choose", choose_runbook)
    _on(app, desk, "note.open", open_note)
    for decision in Decision:
        _on(app, desk, f"escalation.decide.{decision.value}", partial(decide, decision))


async def approve(desk: Desk, click: Click) -> None:
    """Yes to exactly the order that this message shows."""
    await ask(desk.service.approve, click.action.value, click.user.person, yes=True, at=click.at)


async def open_reject(desk: Desk, click: Click) -> None:
    """Ask why; the no itself comes with the form."""
    await forms.open_reject(desk, click.trigger_id, click.action.value, click.at)


async def decide(decision: Decision, desk: Desk, click: Click) -> None:
    """What happens with a halted run."""
    await ask(desk.service.decide, click.action.value, click.user.person, decision, at=click.at)


async def extend(desk: Desk, click: Click) -> None:
    """More time for an approval, or no reminders of an escalation for a while."""
    await ask(desk.service.extend, click.action.value, click.user.person, at=click.at)


async def choose_runbook(desk: Desk, click: Click) -> None:
    """Start a run for an incident that has none. The token is in the block's id: options only hold names."""
    chosen = click.action.selected_option
    if chosen is None or not click.action.block_id.startswith(CHOOSE_PREFIX):
        raise BadInput("no runbook was chosen", "choose one from the list")
    token = click.action.block_id.removeprefix(CHOOSE_PREFIX)
    await ask(desk.service.choose_runbook, token, click.user.person, chosen.value)


async def open_note(desk: Desk, click: Click) -> None:
    """Open the harness note of this incident."""
    if not click.action.value.isdigit():
        raise BadInput("this button names no incident", "type /signalbox note and its number")
    await forms.open_note(desk, click.trigger_id, int(click.action.value))


def _on(app: AsyncApp, desk: Desk, action_id: str, act: Act) -> None:
    async def listener(ack: AsyncAck, body: dict[str, Any], respond: AsyncRespond) -> None:
        async def once() -> None:
            click = Click.model_validate(body)
            if await first_time(desk, click.key):
                await act(desk, click)

        error = await in_time(once)
        await ack()
        if error is not None:
            await answer_privately(respond, explain(error))

    app.action(action_id)(listener)
