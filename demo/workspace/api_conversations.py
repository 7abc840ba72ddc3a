"""conversations.*: https://docs.slack.dev/reference/methods/conversations.create and its neighbours."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from demo.workspace import wire
from demo.workspace.api import Api, Method
from demo.workspace.args import Args
from demo.workspace.errors import ApiError, Json
from demo.workspace.model import Channel, Message, Team, new_id

NAME = 80
TOPIC = 250

T = TypeVar("T")


def checked_name(name: str) -> str:
    """A channel name that Slack takes; it mends nothing, it refuses."""
    if not name:
        raise ApiError("invalid_name_required")
    if len(name) > NAME:
        raise ApiError("invalid_name_maxlength")
    if not all(letter in "-_" or (letter.isalnum() and letter == letter.lower()) for letter in name):
        raise ApiError("invalid_name_specials")
    if not any(letter.isalnum() for letter in name):
        raise ApiError("invalid_name_punctuation")
    return name


def page(items: Sequence[T], args: Args, default: int) -> tuple[list[T], str]:
    """One page of a list, and the cursor of the next ("" at the end)."""
    start = 0
    if args.text("cursor"):
        try:
            start = int(base64.b64decode(args.text("cursor"), validate=True))
        except (ValueError, binascii.Error):
            raise ApiError("invalid_cursor") from None
    end = start + args.number("limit", default, 1000)
    more = base64.b64encode(str(end).encode()).decode() if end < len(items) else ""
    return list(items[start:end]), more


def _member(team: Team, channel: Channel) -> Channel:
    if team.bot.id not in channel.members:
        raise ApiError("not_in_channel")
    return channel


def _open(channel: Channel) -> Channel:
    if channel.is_archived:
        raise ApiError("is_archived")
    if channel.is_im:
        raise ApiError("method_not_supported_for_channel_type")
    return channel


def create(api: Api, args: Args) -> Json:
    """conversations.create: the bot is creator and first member."""
    team = api.team
    name = checked_name(args.text("name"))
    if team.by_name(name) is not None:
        raise ApiError("name_taken")
    channel = Channel(
        id=new_id("C"),
        name=name,
        creator=team.bot.id,
        created=int(time.time()),
        is_private=args.flag("is_private"),
    )
    team.channels[channel.id] = channel
    team.join(channel, team.bot.id)
    return {"ok": True, "channel": wire.channel_json(team, channel)}


def listed(api: Api, args: Args) -> Json:
    """conversations.list: public channels, and private ones on request where the bot is in."""
    team = api.team
    types = args.words("types") or ["public_channel"]

    def wanted(channel: Channel) -> bool:
        kind = "im" if channel.is_im else "private_channel" if channel.is_private else "public_channel"
        archived = channel.is_archived and args.flag("exclude_archived")
        return kind in types and channel.visible_to(team.bot.id) and not archived

    some, cursor = page([c for c in team.channels.values() if wanted(c)], args, 100)
    rows = [{**wire.channel_json(team, c), "num_members": len(c.members)} for c in some]
    return {"ok": True, "channels": rows, "response_metadata": {"next_cursor": cursor}}


def info(api: Api, args: Args) -> Json:
    """conversations.info"""
    channel = api.team.find_channel(args.text("channel"))
    out = wire.channel_json(api.team, channel)
    if args.flag("include_num_members"):
        out["num_members"] = len(channel.members)
    return {"ok": True, "channel": out}


def _ts(args: Args, name: str) -> Decimal | None:
    text = args.text(name)
    if not text:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ApiError(f"invalid_ts_{name}") from None


def between(args: Args) -> Callable[[Message], bool]:
    """Whether a message lies between `oldest` and `latest`; the ends count only with `inclusive`."""
    oldest, latest, inclusive = _ts(args, "oldest"), _ts(args, "latest"), args.flag("inclusive")

    def lies(message: Message) -> bool:
        ts = Decimal(message.ts)
        after = oldest is None or ts > oldest or (inclusive and ts == oldest)
        return after and (latest is None or ts < latest or (inclusive and ts == latest))

    return lies


def history(api: Api, args: Args) -> Json:
    """conversations.history: newest first, replies left out unless broadcast; ephemeral messages are never in it."""
    team = api.team
    channel = _member(team, team.find_channel(args.text("channel")))
    lies = between(args)
    shown = [m for m in channel.messages if not m.visible_to and (not m.is_reply or m.broadcast) and lies(m)]
    some, cursor = page(shown[::-1], args, 100)
    metadata = args.flag("include_all_metadata")
    answer: Json = {
        "ok": True,
        "messages": [wire.parent_json(team, channel, m, metadata=metadata) for m in some],
        "has_more": bool(cursor),
        "pin_count": len(channel.pins),
    }
    if cursor:
        answer["response_metadata"] = {"next_cursor": cursor}
    return answer


def replies(api: Api, args: Args) -> Json:
    """conversations.replies: the parent, then its replies, oldest first."""
    team = api.team
    channel = _member(team, team.find_channel(args.text("channel")))
    parent = channel.message(args.text("ts"))
    if parent is None or parent.visible_to:
        raise ApiError("thread_not_found")
    lies = between(args)
    thread = [parent, *(m for m in channel.replies(parent.ts) if not m.visible_to and lies(m))]
    some, cursor = page(thread, args, 1000)
    metadata = args.flag("include_all_metadata")
    rows = [wire.parent_json(team, channel, m, metadata=metadata) for m in some]
    answer: Json = {"ok": True, "messages": rows, "has_more": bool(cursor)}
    if cursor:
        answer["response_metadata"] = {"next_cursor": cursor}
    return answer


def join(api: Api, args: Args) -> Json:
    """conversations.join"""
    team = api.team
    channel = _open(team.find_channel(args.text("channel")))
    if team.bot.id in channel.members:
        warning = {"warning": "already_in_channel", "response_metadata": {"warnings": ["already_in_channel"]}}
        return {"ok": True, "channel": wire.channel_json(team, channel), **warning}
    team.join(channel, team.bot.id)
    return {"ok": True, "channel": wire.channel_json(team, channel)}


def invite(api: Api, args: Args) -> Json:
    """conversations.invite: all or nobody, unless `force`."""
    team = api.team
    channel = _member(team, _open(team.find_channel(args.text("channel"))))
    users = list(dict.fromkeys(args.words("users")))
    if not users:
        raise ApiError("no_user")
    refused = {user: why for user in users if (why := _why_not(team, channel, user))}
    if refused and not (args.flag("force") and len(refused) < len(users)):
        errors = [{"user": user, "ok": False, "error": why} for user, why in refused.items()]
        raise ApiError(next(iter(refused.values())), errors=errors)
    for user in users:
        if user not in refused:
            team.join(channel, user, inviter=team.bot.id)
    return {"ok": True, "channel": wire.channel_json(team, channel)}


def _why_not(team: Team, channel: Channel, user: str) -> str | None:
    if user == team.bot.id:
        return "cant_invite_self"
    if user not in team.people:
        return "user_not_found"
    return "already_in_channel" if user in channel.members else None


def members(api: Api, args: Args) -> Json:
    """conversations.members"""
    some, cursor = page(api.team.find_channel(args.text("channel")).members, args, 100)
    return {"ok": True, "members": some, "response_metadata": {"next_cursor": cursor}}


def _described(api: Api, args: Args, name: str) -> Json:
    team = api.team
    channel = _member(team, _open(team.find_channel(args.text("channel"))))
    value = args.text(name)
    if len(value) > TOPIC:
        raise ApiError("too_long")
    entry = {"value": value, "creator": team.bot.id, "last_set": int(time.time())}
    if name == "topic":
        channel.topic = entry
    else:
        channel.purpose = entry
    team.post_system(channel, team.bot.id, f"channel_{name}", f"<@{team.bot.id}> set the channel {name}: {value}")
    return {"ok": True, "channel": wire.channel_json(team, channel)}


def set_topic(api: Api, args: Args) -> Json:
    """conversations.setTopic"""
    return _described(api, args, "topic")


def set_purpose(api: Api, args: Args) -> Json:
    """conversations.setPurpose"""
    return _described(api, args, "purpose")


def archive(api: Api, args: Args) -> Json:
    """conversations.archive"""
    team = api.team
    channel = team.find_channel(args.text("channel"))
    if channel.is_archived:
        raise ApiError("already_archived")
    _member(team, _open(channel))
    team.post_system(channel, team.bot.id, "channel_archive", f"<@{team.bot.id}> archived the channel")
    channel.is_archived = True
    team.changed()
    team.tell({"type": "channel_archive", "channel": channel.id, "user": team.bot.id})
    return {"ok": True}


def rename(api: Api, args: Args) -> Json:
    """conversations.rename: only what the bot created."""
    team = api.team
    channel = _open(team.find_channel(args.text("channel")))
    name = checked_name(args.text("name"))
    if channel.creator != team.bot.id:
        raise ApiError("not_authorized")
    _member(team, channel)
    if team.by_name(name) is not None:
        raise ApiError("name_taken")
    channel.previous_names.append(channel.name)
    channel.name = name
    team.post_system(channel, team.bot.id, "channel_name", f"<@{team.bot.id}> renamed the channel to {name}")
    team.tell({"type": "channel_rename", "channel": {"id": channel.id, "name": name, "created": channel.created}})
    return {"ok": True, "channel": wire.channel_json(team, channel)}


METHODS = {
    "conversations.create": Method(2, create),
    "conversations.list": Method(2, listed),
    "conversations.info": Method(3, info, ("channel",)),
    "conversations.history": Method(3, history, ("channel",)),
    "conversations.replies": Method(3, replies, ("channel", "ts")),
    "conversations.join": Method(3, join, ("channel",)),
    "conversations.invite": Method(3, invite, ("channel",)),
    "conversations.members": Method(4, members, ("channel",)),
    "conversations.setTopic": Method(2, set_topic, ("channel",)),
    "conversations.setPurpose": Method(2, set_purpose, ("channel",)),
    "conversations.archive": Method(2, archive, ("channel",)),
    "conversations.rename": Method(2, rename, ("channel",)),
}
