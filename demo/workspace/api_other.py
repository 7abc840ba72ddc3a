"""auth, api, users, usergroups, views, reactions, pins, bookmarks: https://docs.slack.dev/reference/methods"""

from __future__ import annotations

import re
import time

from demo.workspace import modals, wire
from demo.workspace.api import Api, Method
from demo.workspace.api_conversations import page
from demo.workspace.args import Args
from demo.workspace.errors import ApiError, Json
from demo.workspace.model import Channel, Message, new_id

EMOJI = re.compile(r"[a-z0-9_+'-]+(::skin-tone-[2-6])?")


def auth_test(api: Api, _args: Args) -> Json:
    """auth.test"""
    team = api.team
    return {
        "ok": True,
        "url": f"{team.url}/",
        "team": team.name,
        "user": team.bot.name,
        "team_id": team.id,
        "user_id": team.bot.id,
        "bot_id": team.bot_id,
        "is_enterprise_install": False,
    }


def api_test(_api: Api, args: Args) -> Json:
    """api.test: fails on request."""
    if args.text("error"):
        raise ApiError(args.text("error"))
    return {"ok": True}


def users_info(api: Api, args: Args) -> Json:
    """users.info"""
    return {"ok": True, "user": wire.user_json(api.team, api.team.find_user(args.text("user")))}


def users_list(api: Api, args: Args) -> Json:
    """users.list"""
    some, cursor = page(api.team.everybody(), args, 1000)
    rows = [wire.user_json(api.team, person) for person in some]
    return {"ok": True, "members": rows, "cache_ts": int(time.time()), "response_metadata": {"next_cursor": cursor}}


def usergroup_users(api: Api, args: Args) -> Json:
    """usergroups.users.list"""
    group = api.team.usergroups.get(args.text("usergroup"))
    if group is None:
        raise ApiError("no_such_subteam")
    return {"ok": True, "users": list(group)}


def conversations_open(api: Api, args: Args) -> Json:
    """conversations.open, with one person only."""
    users = args.words("users")
    if len(users) != 1:
        raise ApiError("invalid_arguments", messages=["this workspace opens conversations with one person only"])
    channel = api.team.direct(users[0])
    api.team.changed()
    return {"ok": True, "channel": {"id": channel.id}}


# -- views


def views_open(api: Api, args: Args) -> Json:
    """views.open. The view is checked first, so that a refused one does not use up the trigger_id."""
    view = modals.checked(args.structure("view", "invalid_arguments"))
    trigger = api.once.exchange(args.text("trigger_id"))
    return {"ok": True, "view": api.modals.open(trigger.user, view)}


def views_push(api: Api, args: Args) -> Json:
    """views.push: onto the modal that the trigger came from."""
    view = modals.checked(args.structure("view", "invalid_arguments"))
    trigger = api.once.exchange(args.text("trigger_id"))
    if trigger.view_id is None:
        raise ApiError("invalid_trigger_id")
    return {"ok": True, "view": api.modals.push(trigger.user, view)}


def views_update(api: Api, args: Args) -> Json:
    """views.update"""
    if not args.text("view_id") and not args.text("external_id"):
        raise ApiError("invalid_arguments", messages=["missing required field: view_id"])
    view = args.structure("view", "invalid_arguments")
    user, old = api.modals.find(view_id=args.text("view_id"), external_id=args.text("external_id"))
    if args.text("hash") and args.text("hash") != old["hash"]:
        raise ApiError("hash_conflict")
    return {"ok": True, "view": api.modals.update(user, old, view)}


# -- things on messages


def _message(channel: Channel, ts: str) -> Message:
    message = channel.message(ts)
    if message is None or message.visible_to:
        raise ApiError("message_not_found")
    return message


def _member(api: Api, channel: str) -> Channel:
    found = api.team.find_channel(channel)
    if api.team.bot.id not in found.members:
        raise ApiError("not_in_channel")
    if found.is_archived:
        raise ApiError("is_archived")
    return found


def reactions_add(api: Api, args: Args) -> Json:
    """reactions.add"""
    message = _message(_member(api, args.text("channel")), args.text("timestamp"))
    name = args.text("name").strip(":")
    if not EMOJI.fullmatch(name):
        raise ApiError("invalid_name")
    users = message.reactions.setdefault(name, [])
    if api.team.bot.id in users:
        raise ApiError("already_reacted")
    users.append(api.team.bot.id)
    api.team.changed()
    return {"ok": True}


def pins_add(api: Api, args: Args) -> Json:
    """pins.add"""
    channel = _member(api, args.text("channel"))
    message = _message(channel, args.text("timestamp"))
    if message.ts in channel.pins:
        raise ApiError("already_pinned")
    channel.pins.append(message.ts)
    api.team.changed()
    return {"ok": True}


def bookmarks_add(api: Api, args: Args) -> Json:
    """bookmarks.add, links only."""
    channel = _member(api, args.text("channel_id"))
    if args.text("type") != "link":
        raise ApiError("invalid_bookmark_type")
    if not args.text("link").startswith(("http://", "https://")):
        raise ApiError("invalid_link")
    now = int(time.time())
    bookmark = {
        "id": new_id("Bk"),
        "channel_id": channel.id,
        "title": args.text("title"),
        "link": args.text("link"),
        "emoji": args.text("emoji"),
        "type": "link",
        "date_created": now,
        "date_updated": 0,
        "rank": "a",
        "last_updated_by_user_id": api.team.bot.id,
        "last_updated_by_team_id": api.team.id,
        "app_id": api.team.app_id,
    }
    channel.bookmarks.append(bookmark)
    api.team.changed()
    return {"ok": True, "bookmark": bookmark}


METHODS = {
    "auth.test": Method(None, auth_test),
    "api.test": Method(4, api_test),
    "users.info": Method(4, users_info, ("user",)),
    "users.list": Method(2, users_list),
    "usergroups.users.list": Method(2, usergroup_users, ("usergroup",)),
    "conversations.open": Method(3, conversations_open, ("users",)),
    "views.open": Method(4, views_open, ("trigger_id", "view")),
    "views.push": Method(4, views_push, ("trigger_id", "view")),
    "views.update": Method(4, views_update, ("view",)),
    "reactions.add": Method(3, reactions_add, ("channel", "timestamp", "name")),
    "pins.add": Method(2, pins_add, ("channel", "timestamp")),
    "bookmarks.add": Method(2, bookmarks_add, ("channel_id", "title", "type")),
}
