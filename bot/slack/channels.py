"""Where messages go: the channel of an incident and the feed. Ensures that they exist; `delivery` asks.

A channel is known by a reference in the database, never by its name: a name may belong to somebody else.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Awaitable

import structlog
from slack_sdk.errors import SlackApiError

from bot.crossing import ask
from bot.options import BotOptions
from bot.slack.troubles import Kind, read
from bot.slack.workspace import Workspace
from bot.views.escape import is_user, mrkdwn
from engine.domain.errors import Unavailable
from engine.domain.incident import IncidentView, MessageRef
from engine.service import Service

log = structlog.get_logger(__name__)

MAX_NAME = 80
MAX_TOPIC = 250
INVITED_AT_ONCE = 30
SUFFIXES = range(2, 10)
CLOCK_SKEW_S = 5
_CHANNEL_ID = re.compile(r"[CG][A-Z0-9]{6,}")


def name_for(number: int, title: str, suffix: int | None = None) -> str:
    """`inc-<number>-<slug>`, as Slack allows: at most 80 lower-case letters, digits, hyphens.

    https://docs.slack.dev/reference/methods/conversations.create/#naming
    """
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_title.lower()).strip("-")
    end = f"-{suffix}" if suffix else ""
    return f"inc-{number}-{slug}"[: MAX_NAME - len(end)].strip("-") + end


def channel_key(incident_id: str) -> str:
    """Under which key the incident's channel is kept."""
    return f"channel:{incident_id}"


class Channels:
    """Ensures channels. Calls for one incident must not run at once (`delivery` holds a lock for each)."""

    def __init__(self, service: Service, workspace: Workspace, options: BotOptions) -> None:
        self._service = service
        self._workspace = workspace
        self._options = options
        self._ready: set[str] = set()
        self._feed = ""
        self._feed_lock = asyncio.Lock()

    async def of(self, incident: IncidentView) -> str | None:
        """The incident's channel if it has one."""
        kept = await ask(self._service.ref, channel_key(incident.id))
        return kept.channel if kept else None

    async def ensure(self, incident: IncidentView) -> str:
        """The incident's channel: created, its topic set, people invited. Repeatable after any failure."""
        channel = await self.of(incident)
        if channel is None:
            channel = await self._create(incident)
            await ask(self._service.keep_ref, channel_key(incident.id), MessageRef(channel=channel, ts=""))
        if incident.id not in self._ready:
            await self._furnish(incident, channel)
            self._ready.add(incident.id)
        return channel

    async def feed(self) -> str:
        """The feed channel: found or created by its name, joined."""
        async with self._feed_lock:
            if not self._feed:
                self._feed = await self._find_feed()
        return self._feed

    async def _create(self, incident: IncidentView) -> str:
        for suffix in (None, *SUFFIXES):
            name = name_for(incident.number, incident.title, suffix)
            try:
                return await self._workspace.create_channel(name)
            except SlackApiError as error:
                if read(error).code != "name_taken":
                    raise
            # An earlier try of ours may have made it and lost the answer; anybody else's channel is never taken over.
            found = await self._workspace.channel_named(name)
            ours = found is not None and found.get("creator") == await self._workspace.bot_user()
            if found and ours and float(found.get("created", 0)) >= incident.opened_at.timestamp() - CLOCK_SKEW_S:
                return str(found["id"])
        return await self._workspace.create_channel(f"inc-{incident.id.lower()}"[:MAX_NAME])

    async def _furnish(self, incident: IncidentView, channel: str) -> None:
        """Topic and invitations. Done once: the second reference says so. A refusal here stops no message."""
        key = f"channel-ready:{incident.id}"
        if await ask(self._service.ref, key):
            return
        address = f"{self._options.public_url.rstrip('/')}/incidents/{incident.number}"
        title = mrkdwn(incident.title, MAX_TOPIC - len(address) - 40)
        await self._minor(
            self._workspace.topic(channel, f"{mrkdwn(incident.severity)} | {title} | {address}"[:MAX_TOPIC])
        )
        people = [who for who in dict.fromkeys((*self._options.invite, incident.opened_by)) if is_user(who)]
        for start in range(0, len(people), INVITED_AT_ONCE):
            await self._invite(channel, people[start : start + INVITED_AT_ONCE])
        await ask(self._service.keep_ref, key, MessageRef(channel=channel, ts=""))

    async def _invite(self, channel: str, people: list[str]) -> None:
        """All at once; if Slack refuses the batch for one of them, one by one."""
        if not await self._minor(self._workspace.invite(channel, people)) and len(people) > 1:
            for who in people:
                await self._minor(self._workspace.invite(channel, [who]))

    async def _minor(self, call: Awaitable[None]) -> bool:
        """Make a call whose refusal is logged and passed over; anything that may pass later is raised."""
        try:
            await call
        except SlackApiError as error:
            trouble = read(error)
            if trouble.kind in {Kind.LIMITED, Kind.AUTH, Kind.TRANSIENT}:
                raise
            log.warning("slack_refused_a_minor_call", code=trouble.code)
            return False
        return True

    async def _find_feed(self) -> str:
        wanted = self._options.feed_channel.removeprefix("#")
        if _CHANNEL_ID.fullmatch(wanted):
            await self._workspace.join(wanted)
            return wanted
        key = f"feed-channel:{wanted}"
        kept = await ask(self._service.ref, key)
        if kept is not None and await self._still_there(kept.channel):
            return kept.channel
        channel = await self._feed_by_name(wanted)
        await self._workspace.join(channel)
        await ask(self._service.keep_ref, key, MessageRef(channel=channel, ts=""))
        return channel

    async def _still_there(self, channel: str) -> bool:
        """Join; False when the channel was deleted or archived."""
        try:
            await self._workspace.join(channel)
        except SlackApiError as error:
            if read(error).kind is not Kind.GONE:
                raise
            return False
        return True

    async def _feed_by_name(self, name: str) -> str:
        """Here a channel of somebody else is what we want: an administrator named it in the configuration."""
        try:
            return await self._workspace.create_channel(name)
        except SlackApiError as error:
            if read(error).code != "name_taken" and read(error).kind is not Kind.REFUSED:
                raise
        found = await self._workspace.channel_named(name)
        if found is None:
            raise Unavailable(f"the feed channel #{name} is private or archived", "invite the bot, or set another one")
        return str(found["id"])
