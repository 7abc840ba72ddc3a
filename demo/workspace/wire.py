"""How people, channels and messages look in answers and payloads.

Shapes: https://docs.slack.dev/reference/objects/conversation-object, .../objects/user-object and
https://docs.slack.dev/reference/events/message. Fields that nobody here fills are left out, none is invented.
"""

from __future__ import annotations

from demo.workspace.errors import Json
from demo.workspace.model import Channel, Message, Person, Team


def user_json(team: Team, person: Person) -> Json:
    """One user of users.info and users.list."""
    profile = {
        "real_name": person.real_name,
        "display_name": person.name,
        "real_name_normalized": person.real_name,
        "display_name_normalized": person.name,
        "title": person.title,
        "team": team.id,
    }
    return {
        "id": person.id,
        "team_id": team.id,
        "name": person.name,
        "deleted": False,
        "real_name": person.real_name,
        "tz": "Etc/UTC",
        "tz_label": "Coordinated Universal Time",
        "tz_offset": 0,
        "profile": profile,
        "is_admin": False,
        "is_owner": False,
        "is_primary_owner": False,
        "is_restricted": False,
        "is_ultra_restricted": False,
        "is_bot": person.is_bot,
        "is_app_user": False,
        "updated": 0,
    }


def channel_json(team: Team, channel: Channel) -> Json:
    """One conversation as the app's token sees it."""
    if channel.is_im:
        other = next(m for m in channel.members if m != team.bot.id)
        return {"id": channel.id, "created": channel.created, "is_im": True, "is_archived": False, "user": other}
    return {
        "id": channel.id,
        "name": channel.name,
        "name_normalized": channel.name,
        "is_channel": not channel.is_private,
        "is_group": channel.is_private,
        "is_im": False,
        "is_mpim": False,
        "is_private": channel.is_private,
        "created": channel.created,
        "creator": channel.creator,
        "is_archived": channel.is_archived,
        "is_general": False,
        "unlinked": 0,
        "is_shared": False,
        "is_ext_shared": False,
        "is_org_shared": False,
        "is_pending_ext_shared": False,
        "pending_shared": [],
        "is_member": team.bot.id in channel.members,
        "topic": channel.topic,
        "purpose": channel.purpose,
        "previous_names": channel.previous_names,
    }


def _authored(team: Team, message: Message) -> Json:
    if not message.from_app:
        return {"user": message.user, "team": team.id}
    profile = {
        "id": team.bot_id,
        "app_id": team.app_id,
        "user_id": team.bot.id,
        "name": team.bot.name,
        "icons": {},
        "deleted": False,
        "updated": 0,
        "team_id": team.id,
    }
    return {
        "user": team.bot.id,
        "team": team.id,
        "bot_id": team.bot_id,
        "app_id": team.app_id,
        "bot_profile": profile,
    }


def message_json(team: Team, message: Message, *, metadata: bool = False) -> Json:
    """One message; `metadata` only on request, as conversations.history does it."""
    out: Json = {"type": "message", "ts": message.ts, "text": message.text, **_authored(team, message)}
    if message.subtype:
        out["subtype"] = message.subtype
    if message.broadcast:
        out["subtype"] = "thread_broadcast"
    if message.blocks:
        out["blocks"] = message.blocks
    if message.thread_ts:
        out["thread_ts"] = message.thread_ts
    if message.edited:
        out["edited"] = {"user": message.user, "ts": message.edited}
    if message.reactions:
        out["reactions"] = [
            {"name": name, "users": users, "count": len(users)} for name, users in message.reactions.items()
        ]
    if metadata and message.metadata:
        out["metadata"] = message.metadata
    return out


def parent_json(team: Team, channel: Channel, message: Message, *, metadata: bool = False) -> Json:
    """A message with the figures of its thread, as history and replies show it."""
    out = message_json(team, message, metadata=metadata)
    replies = [r for r in channel.replies(message.ts) if not r.visible_to]
    if message.is_reply:
        parent = channel.message(message.thread_ts or "")
        if parent is not None:
            out["parent_user_id"] = parent.user
    elif replies:
        users = list(dict.fromkeys(reply.user for reply in replies))
        out |= {
            "reply_count": len(replies),
            "reply_users_count": len(users),
            "reply_users": users,
            "latest_reply": replies[-1].ts,
            "is_locked": False,
            "subscribed": False,
        }
    return out
