"""The one command, /signalbox: a table of words, each with its function. `front` registers it.

What went wrong is answered privately, as everything here.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck

from bot.crossing import ask
from bot.slack import forms
from bot.slack.desk import Desk, explain, first_time, in_time
from bot.slack.payloads import Command
from bot.views import messages
from bot.views.escape import mrkdwn
from bot.views.render import Message
from engine.domain.alert import Severity
from engine.domain.errors import BadInput

COMMAND = "/signalbox"
MAX_LISTED = 30
Words = list[str]


@dataclass(frozen=True, slots=True)
class Word:
    """A word after the command: how it is used, what it does."""

    usage: str
    what: str
    act: Callable[[Desk, Command, Words], Awaitable[Message | None]]


def register(app: AsyncApp, desk: Desk) -> None:
    """Tell bolt about the command."""

    async def listener(ack: AsyncAck, body: dict[str, Any]) -> None:
        answer: list[Message] = []

        async def once() -> None:
            command = Command.model_validate(body)
            if await first_time(desk, command.key):
                answer.extend(filter(None, [await obey(desk, command)]))

        error = await in_time(once)
        if error is not None:
            answer = [Message(explain(error), ())]
        if not answer:
            await ack()
        for each in answer:
            await ack(text=each.text, blocks=list(each.blocks) or None, response_type="ephemeral")

    app.command(COMMAND)(listener)


async def obey(desk: Desk, command: Command) -> Message | None:
    """Do what the words say; returns the private answer, if there is one to give."""
    name, *rest = command.words or ["help"]
    word = WORDS.get(name.lower())
    if word is not None:
        return await word.act(desk, command, rest)
    near = difflib.get_close_matches(name.lower(), WORDS, n=1)
    hint = f" Did you mean `{COMMAND} {near[0]}`?" if near else ""
    return messages.usage(_usage(), desk.options.public_url, f"There is no `{name[:40]}`.{hint}")


async def _list(desk: Desk, _command: Command, _words: Words) -> Message:
    summaries = await ask(desk.service.incidents, only_open=True, limit=MAX_LISTED)
    switch = await ask(desk.service.kill_switch)
    return messages.incidents(summaries, switch, desk.options.public_url)


async def _show(desk: Desk, command: Command, words: Words) -> Message:
    incident = await ask(desk.service.incident, await _number(desk, command, words))
    switch = await ask(desk.service.kill_switch)
    return messages.card(incident, switch, desk.options.public_url)


async def _declare(desk: Desk, command: Command, words: Words) -> Message:
    options = _take_options(words, ("severity", "runbook"))
    severity = _severity(options.get("severity", Severity.UNKNOWN))
    title = " ".join(words)
    incident = await ask(desk.service.declare, command.person, title, severity, options.get("runbook"))
    link = messages.url(desk.options.public_url, incident)
    return Message(f"Declared <{link}|#{incident.number}> {mrkdwn(incident.title)}. Its channel opens in a moment.", ())


async def _abandon(desk: Desk, command: Command, words: Words) -> Message:
    number = await _number(desk, command, words)
    incident = await ask(desk.service.abandon, number, command.person, " ".join(words))
    return Message(f"Abandoned #{incident.number} {mrkdwn(incident.title)}.", ())


async def _close(desk: Desk, command: Command, words: Words) -> Message:
    incident = await ask(desk.service.close, await _number(desk, command, words), command.person)
    return Message(f"Closed #{incident.number} {mrkdwn(incident.title)}.", ())


async def _stop(desk: Desk, command: Command, words: Words) -> Message:
    switch = await ask(desk.service.throw_kill_switch, command.person, on=True, reason=" ".join(words))
    return messages.thrown(switch)


async def _resume(desk: Desk, command: Command, words: Words) -> Message:
    switch = await ask(desk.service.throw_kill_switch, command.person, on=False, reason=" ".join(words))
    return messages.thrown(switch)


async def _note(desk: Desk, command: Command, words: Words) -> None:
    await forms.open_note(desk, command.trigger_id, await _number(desk, command, words))


async def _help(desk: Desk, _command: Command, _words: Words) -> Message:
    return messages.usage(_usage(), desk.options.public_url)


WORDS: Mapping[str, Word] = {
    "list": Word("list", "open incidents", _list),
    "show": Word("show [N]", "what is going on in one", _show),
    "declare": Word("declare TITLE [--severity S] [--runbook NAME]", "open one by hand", _declare),
    "abandon": Word("abandon [N] [REASON]", "end its run, destroy its VM, close it", _abandon),
    "close": Word("close [N]", "close one whose run has ended", _close),
    "stop": Word("stop [REASON]", "the kill switch: nothing starts, what runs is stopped", _stop),
    "resume": Word("resume [REASON]", "let things go on after a stop", _resume),
    "note": Word("note [N]", "write a harness note", _note),
    "help": Word("help", "this", _help),
}


def _usage() -> list[str]:
    return [f"`{COMMAND} {word.usage}` – {word.what}" for word in WORDS.values()]


async def _number(desk: Desk, command: Command, words: Words) -> int:
    """The incident meant: the first word if it is a number (it is taken off), else the one whose channel this is."""
    first = words[0].lower().removeprefix("#").removeprefix("inc-") if words else ""
    if first.isdecimal() and len(first) < 10:
        del words[0]
        return int(first)
    here = await ask(desk.service.incident_at, command.channel_id)
    if here is None:
        raise BadInput("which incident?", f"add its number, or type this in its channel; {COMMAND} list shows them")
    return here


def _take_options(words: Words, names: tuple[str, ...]) -> dict[str, str]:
    """Take `--name value` and `--name=value` out of the words."""
    found: dict[str, str] = {}
    while mark := next((word for word in words if word.startswith("--")), None):
        at = words.index(mark)
        name, equals, value = mark.removeprefix("--").partition("=")
        if name not in names:
            raise BadInput(f"there is no option {mark}", f"possible: {', '.join('--' + each for each in names)}")
        if not equals:
            value = words.pop(at + 1) if at + 1 < len(words) else ""
        if not value:
            raise BadInput(f"--{name} needs a value")
        del words[at]
        found[name] = value
    return found


def _severity(text: str) -> Severity:
    try:
        return Severity(text.lower())
    except ValueError:
        raise BadInput(f"there is no severity {text}", f"possible: {', '.join(Severity)}") from None
