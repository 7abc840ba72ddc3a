"""What every handler needs: the service, a client, a deadline, the check for repeats, and words for what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from pydantic import ValidationError
from slack_bolt.context.respond.async_respond import AsyncRespond
from slack_sdk.web.async_client import AsyncWebClient

from bot.crossing import ask
from bot.options import BotOptions
from bot.slack.troubles import CALL_ERRORS
from bot.views.escape import with_mentions
from engine.domain.errors import BadInput, Conflict, NotAllowed, Refused, SignalboxError, Unavailable
from engine.service import Service

log = structlog.get_logger(__name__)

DEADLINE_S = 2.0
""" Slack waits 3 s: https://docs.slack.dev/interactivity/handling-user-interaction#acknowledgment_response """
RESPOND_S = 0.8
""" A private answer that does not get through in this time is dropped: what it speaks of is in the database. """

_INTROS: tuple[tuple[type[SignalboxError], str], ...] = (
    (NotAllowed, "🔒 Not yours to decide:"),
    (Refused, "🛑 Refused, and nothing was started:"),
    (Conflict, "Nothing was changed:"),
    (Unavailable, "⏳ Signalbox cannot reach what it needs. Nothing was lost; try again in a minute:"),
    (BadInput, "⚠️"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where people's acts arrive."""

    service: Service
    client: AsyncWebClient
    options: BotOptions


def explain(error: BaseException) -> str:
    """What went wrong, in mrkdwn, for the one person who acted."""
    if isinstance(error, SignalboxError):
        intro = next((intro for kind, intro in _INTROS if isinstance(error, kind)), "⚠️")
        remedy = f" – {with_mentions(error.remedy)}" if error.remedy else ""
        return f"{intro} {with_mentions(error)}{remedy}"
    if isinstance(error, TimeoutError):
        return "⏳ This takes longer than usual and may still count: look at the incident before you press again."
    if isinstance(error, ValidationError):
        return "⚠️ Signalbox could not read this. Nothing was changed; `/signalbox help` works without buttons."
    if isinstance(error, CALL_ERRORS):
        return "⚠️ Slack did not open the form. Nothing was changed: press again."
    return "⚠️ Something broke on our side; the log has it. Look at the incident before you press again."


async def first_time(desk: Desk, key: str) -> bool:
    """Whether this act is new; two copies that race count once."""
    try:
        return await ask(desk.service.first_time, key)
    except Conflict:
        return False


async def in_time(act: Callable[[], Awaitable[None]]) -> BaseException | None:
    """Act within the deadline; returns what went wrong instead of raising it, because Slack must get an answer."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            await act()
    except (SignalboxError, ValidationError, *CALL_ERRORS) as error:
        log.info("act_refused", kind=type(error).__name__)
        return error
    except Exception as error:  # the rim: a person waits for an answer, whatever broke
        log.exception("act_failed")
        return error
    return None


async def answer_privately(respond: AsyncRespond, text: str) -> None:
    """Tell only the person who acted, by the response_url (works where the bot is no member)."""
    try:
        async with asyncio.timeout(RESPOND_S):
            await respond(text, response_type="ephemeral", replace_original=False)
    except (*CALL_ERRORS, ValueError) as error:  # ValueError: the payload had no response_url
        log.warning("private_answer_lost", kind=type(error).__name__)
