"""chat.*: https://docs.slack.dev/reference/methods/chat.postMessage and its neighbours."""

from __future__ import annotations

import json
from typing import Any

from demo.workspace import blockkit, wire
from demo.workspace.api import Api, Method
from demo.workspace.args import Args
from demo.workspace.errors import ApiError, Json
from demo.workspace.model import Channel, Message, Team

TEXT = 40_000
UPDATE_TEXT = 4_000
METADATA_BYTES = 16_384
""" Slack names no figure for `metadata_too_large`; this one is ours. """


def target(team: Team, channel: str) -> Channel:
    """Where to post: an id, a name with or without #, or a person's id (their direct messages)."""
    if channel in team.people:
        return team.direct(channel)
    named = team.by_name(channel.removeprefix("#"))
    found = named if named is not None and not named.is_archived else None
    return found or team.find_channel(channel)


def writable(team: Team, channel: Channel) -> Channel:
    """Raise when the bot may not write there."""
    if channel.is_archived:
        raise ApiError("is_archived")
    if team.bot.id not in channel.members:
        raise ApiError("not_in_channel")
    return channel


def content(args: Args) -> tuple[str, list[Json] | None]:
    """Text and checked blocks of a message; None when no blocks were given."""
    for name in ("attachments", "markdown_text"):
        if name in args:
            raise ApiError("invalid_arguments", messages=[f"this workspace does not draw {name}: send blocks"])
    blocks = args.structure("blocks", "invalid_blocks_format")
    text = args.text("text")
    if not text and not blocks:
        raise ApiError("no_text")
    return text, None if blocks is None else blockkit.checked_message(blocks)


def metadata_of(args: Args) -> Json | None:
    """Message metadata, https://docs.slack.dev/messaging/message-metadata."""
    value: Any = args.structure("metadata", "invalid_metadata_format")
    if value is None or value == {}:
        return value  # type: ignore[no-any-return]  # None or the empty object, both are Json | None
    if not isinstance(value, dict) or not isinstance(value.get("event_type"), str):
        raise ApiError("invalid_metadata_format")
    if not isinstance(value.get("event_payload"), dict):
        raise ApiError("invalid_metadata_format")
    if len(json.dumps(value).encode()) > METADATA_BYTES:
        raise ApiError("metadata_too_large")
    return value


def thread_of(channel: Channel, args: Args) -> str | None:
    """The parent to reply to. A missing one, or a reply in its place, is an error here: it always is a bug."""
    ts = args.text("thread_ts")
    if not ts:
        return None
    parent = channel.message(ts)
    if parent is None or parent.is_reply or parent.visible_to or parent.subtype:
        raise ApiError("cannot_reply_to_message")
    return ts


def post_message(api: Api, args: Args) -> Json:
    """chat.postMessage"""
    team = api.team
    channel = writable(team, target(team, args.text("channel")))
    text, blocks = content(args)
    message = Message(
        ts=team.next_ts(),
        user=team.bot.id,
        text=text[:TEXT],
        blocks=blocks or [],
        from_app=True,
        thread_ts=thread_of(channel, args),
        metadata=metadata_of(args) or None,
        mrkdwn=args.flag("mrkdwn", default=True),
        broadcast=args.flag("reply_broadcast") and "thread_ts" in args,
    )
    team.post(channel, message)
    answer = {"ok": True, "channel": channel.id, "ts": message.ts}
    answer["message"] = wire.message_json(team, message, metadata=True)
    if len(text) > TEXT:
        answer |= {"warning": "message_truncated", "response_metadata": {"warnings": ["message_truncated"]}}
    return answer


def update(api: Api, args: Args) -> Json:
    """chat.update: text without blocks takes the blocks away; metadata stays unless given."""
    channel = api.team.find_channel(args.text("channel"))
    message = channel.message(args.text("ts"))
    if message is None or message.visible_to:
        raise ApiError("message_not_found")
    if not message.from_app:
        raise ApiError("cant_update_message")
    if channel.is_archived:
        raise ApiError("is_inactive")
    if len(args.text("text")) > UPDATE_TEXT:
        raise ApiError("msg_too_long")
    text, blocks = content(args)
    metadata = metadata_of(args)
    replace(api.team, message, text, blocks)
    if metadata is not None:
        message.metadata = metadata or None
    api.team.changed()
    out = wire.message_json(api.team, message, metadata=True)
    return {"ok": True, "channel": channel.id, "ts": message.ts, "text": message.text, "message": out}


def replace(team: Team, message: Message, text: str, blocks: list[Json] | None) -> None:
    """New content in an old message; what people had chosen in its menus is gone with them."""
    message.text = text if text or not blocks else message.text
    message.edited = None if blocks else team.next_ts()
    message.blocks = blocks or []
    message.states.clear()
    message.notices.clear()


def delete(api: Api, args: Args) -> Json:
    """chat.delete"""
    channel = api.team.find_channel(args.text("channel"))
    message = channel.message(args.text("ts"))
    if message is None or message.visible_to:
        raise ApiError("message_not_found")
    if not message.from_app:
        raise ApiError("cant_delete_message")
    channel.messages.remove(message)
    api.team.changed()
    return {"ok": True, "channel": channel.id, "ts": message.ts}


def post_ephemeral(api: Api, args: Args) -> Json:
    """chat.postEphemeral: only for somebody who is in the channel."""
    team = api.team
    channel = writable(team, target(team, args.text("channel")))
    if args.text("user") not in channel.members:
        raise ApiError("user_not_in_channel")
    text, blocks = content(args)
    message = Message(
        ts=team.next_ts(),
        user=team.bot.id,
        text=text[:TEXT],
        blocks=blocks or [],
        from_app=True,
        thread_ts=thread_of(channel, args),
        visible_to=args.text("user"),
    )
    team.post(channel, message)
    return {"ok": True, "message_ts": message.ts}


def permalink(api: Api, args: Args) -> Json:
    """chat.getPermalink"""
    channel = api.team.find_channel(args.text("channel"))
    ts = args.text("message_ts")
    message = channel.message(ts)
    if message is None or message.visible_to:
        raise ApiError("message_not_found")
    link = f"{api.team.url}/archives/{channel.id}/p{ts.replace('.', '')}"
    return {"ok": True, "channel": channel.id, "permalink": link}


METHODS = {
    "chat.postMessage": Method(None, post_message, ("channel",)),
    "chat.update": Method(3, update, ("channel", "ts")),
    "chat.delete": Method(3, delete, ("channel", "ts")),
    "chat.postEphemeral": Method(4, post_ephemeral, ("channel", "user")),
    "chat.getPermalink": Method(None, permalink, ("channel", "message_ts")),
}
