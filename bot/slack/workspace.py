"""The few Slack calls that durable messages need, paced, each with the arguments that keep them safe.

Used by `channels` and `delivery`. Raises what `troubles.CALL_ERRORS` names, and `Paced` when it is too early.
The client must have no retry handlers: the SDK's own made two messages of one (measured).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.pacing import POST, Pace, Paced
from bot.slack.troubles import Kind, read
from bot.views.limits import Json
from bot.views.render import Message

EVENT_TYPE = "signalbox"
PATIENCE_S = 3.0
""" A shorter wait is slept through; a longer one gives the row back, so that others may go first. """
MAX_PAGES = 30
PAGE = 200


class Workspace:
    """One Slack workspace, as our bot."""

    def __init__(self, client: AsyncWebClient, pace: Pace) -> None:
        self._client = client
        self._pace = pace
        self._bot_user = ""

    async def _turn(self, method: str, channel: str = "") -> None:
        """Wait for our turn, or raise Paced."""
        while (wait := self._pace.take(method, channel)) > 0:
            if wait > PATIENCE_S:
                raise Paced(method, wait)
            await asyncio.sleep(wait)

    async def _call(self, method: str, args: Json, *, channel: str = "", reads: bool = False) -> Json:
        """One call. Reading methods take their arguments in the query, the others as JSON."""
        await self._turn(method, channel)
        try:
            if reads:
                answer = await self._client.api_call(method, http_verb="GET", params=args)
            else:
                answer = await self._client.api_call(method, json=args)
        except SlackApiError as error:
            trouble = read(error)
            if trouble.kind is Kind.LIMITED:
                self._pace.block(method, channel, trouble.retry_after_s)
            raise
        return answer.data if isinstance(answer.data, dict) else {}

    async def _pages(self, method: str, args: Json, items: str) -> AsyncIterator[Json]:
        """The items of all pages, at most MAX_PAGES of them."""
        for _ in range(MAX_PAGES):
            answer = await self._call(method, args, reads=True)
            for item in answer.get(items) or ():
                yield item
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return
            args = {**args, "cursor": cursor}

    async def bot_user(self) -> str:
        """Our own user id."""
        if not self._bot_user:
            self._bot_user = str((await self._call("auth.test", {}))["user_id"])
        return self._bot_user

    async def post(self, channel: str, message: Message, key: str, thread_ts: str = "") -> str:
        """Post; returns the ts. `key` travels as metadata (all apps can read it: no secrets), so that it is found."""
        args: Json = {
            "channel": channel,
            "text": message.text,
            "unfurl_links": False,
            "unfurl_media": False,
            "metadata": {"event_type": EVENT_TYPE, "event_payload": {"key": key}},
        }
        if message.blocks:
            args["blocks"] = list(message.blocks)
        if thread_ts:
            args["thread_ts"] = thread_ts
        return str((await self._call(POST, args, channel=channel))["ts"])

    async def edit(self, channel: str, ts: str, message: Message) -> None:
        """Replace a message of ours."""
        args = {"channel": channel, "ts": ts, "text": message.text, "blocks": list(message.blocks)}
        await self._call("chat.update", args)

    async def permalink(self, channel: str, ts: str) -> str:
        """The address of a message, for people."""
        args = {"channel": channel, "message_ts": ts}
        return str((await self._call("chat.getPermalink", args, reads=True))["permalink"])

    async def find(self, channel: str, key: str, since: float, thread_ts: str = "") -> str | None:
        """The ts of our message with this key, posted since then (Unix seconds); None when it is not there."""
        method = "conversations.replies" if thread_ts else "conversations.history"
        args: Json = {"channel": channel, "oldest": f"{since:.6f}", "include_all_metadata": True, "limit": PAGE}
        if thread_ts:
            args["ts"] = thread_ts
        async for each in self._pages(method, args, "messages"):
            metadata = each.get("metadata") or {}
            payload = metadata.get("event_payload") or {}
            if metadata.get("event_type") == EVENT_TYPE and payload.get("key") == key:
                return str(each["ts"])
        return None

    async def create_channel(self, name: str) -> str:
        """Create a public channel; returns its id."""
        return str((await self._call("conversations.create", {"name": name}))["channel"]["id"])

    async def channel_named(self, name: str) -> Json | None:
        """The open public channel of this name as Slack describes it, or None."""
        args: Json = {"exclude_archived": True, "types": "public_channel", "limit": 1000}
        async for channel in self._pages("conversations.list", args, "channels"):
            if channel.get("name") == name:
                return channel
        return None

    async def join(self, channel: str) -> None:
        """Become a member (no harm when we are one)."""
        await self._call("conversations.join", {"channel": channel})

    async def topic(self, channel: str, topic: str) -> None:
        """Set the topic, at most 250 characters."""
        await self._call("conversations.setTopic", {"channel": channel, "topic": topic})

    async def invite(self, channel: str, users: Sequence[str]) -> None:
        """Invite up to 100 users; those who are in are no error."""
        try:
            await self._call("conversations.invite", {"channel": channel, "users": ",".join(users)})
        except SlackApiError as error:
            if read(error).code not in {"already_in_channel", "cant_invite_self"}:
                raise
