"""The payloads that the app gets: https://docs.slack.dev/reference/interaction-payloads/ and
https://docs.slack.dev/interactivity/implementing-slash-commands, https://docs.slack.dev/apis/events-api/.
"""

from __future__ import annotations

import time

from demo.workspace import wire
from demo.workspace.errors import Json
from demo.workspace.model import Channel, Message, Person, Team, new_id

TOKEN = "verification-token-is-deprecated"  # noqa: S105  Slack's old verification field, always the same, no secret


def _common(team: Team, person: Person) -> Json:
    return {
        "user": {"id": person.id, "username": person.name, "name": person.name, "team_id": team.id},
        "api_app_id": team.app_id,
        "token": TOKEN,
        "team": {"id": team.id, "domain": team.domain},
        "enterprise": None,
        "is_enterprise_install": False,
    }


def command(
    team: Team, person: Person, channel: Channel, name: str, text: str, response_url: str, trigger: str
) -> Json:
    """A slash command, as form fields."""
    return {
        "token": TOKEN,
        "team_id": team.id,
        "team_domain": team.domain,
        "channel_id": channel.id,
        "channel_name": "directmessage" if channel.is_im else channel.name,
        "user_id": person.id,
        "user_name": person.name,
        "command": name,
        "text": text,
        "api_app_id": team.app_id,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": trigger,
    }


def action(block: Json, element: Json, chosen: Json) -> Json:
    """One entry of `actions`: the element as it is, and what was chosen in it."""
    out = {"type": element["type"], "action_id": element["action_id"], "block_id": block["block_id"]}
    out |= {name: element[name] for name in ("text", "value", "style", "placeholder", "confirm") if name in element}
    return {**out, **chosen, "action_ts": f"{time.time():.6f}"}


def message_click(
    team: Team, person: Person, channel: Channel, message: Message, act: Json, response_url: str, trigger: str
) -> Json:
    """block_actions of a message: https://docs.slack.dev/reference/interaction-payloads/block_actions-payload

    The payload of an ephemeral message has no `message`: Slack keeps none.
    """
    container = {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": channel.id,
        "is_ephemeral": message.visible_to is not None,
    }
    if message.thread_ts:
        container["thread_ts"] = message.thread_ts
    out = {
        "type": "block_actions",
        **_common(team, person),
        "container": container,
        "trigger_id": trigger,
        "channel": {"id": channel.id, "name": "directmessage" if channel.is_im else channel.name},
        "state": {"values": message.states.get(person.id, {})},
        "response_url": response_url,
        "actions": [act],
    }
    if message.visible_to is None:
        out["message"] = wire.message_json(team, message)
    return out


def view_click(team: Team, person: Person, view: Json, act: Json, trigger: str) -> Json:
    """block_actions of an element in a modal."""
    return {
        "type": "block_actions",
        **_common(team, person),
        "container": {"type": "view", "view_id": view["id"]},
        "trigger_id": trigger,
        "view": view,
        "actions": [act],
    }


def submission(team: Team, person: Person, view: Json, values: Json, trigger: str) -> Json:
    """view_submission: https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload"""
    return {
        "type": "view_submission",
        **_common(team, person),
        "trigger_id": trigger,
        "view": {**view, "state": {"values": values}},
        "response_urls": [],
    }


def closed(team: Team, person: Person, view: Json, *, cleared: bool) -> Json:
    """view_closed: sent only for views with `notify_on_close`."""
    return {"type": "view_closed", **_common(team, person), "view": view, "is_cleared": cleared}


def event(team: Team, inner: Json) -> Json:
    """event_callback: https://docs.slack.dev/apis/events-api/#event-type-structure"""
    return {
        "token": TOKEN,
        "team_id": team.id,
        "context_team_id": team.id,
        "context_enterprise_id": None,
        "api_app_id": team.app_id,
        "event": inner,
        "type": "event_callback",
        "event_id": new_id("Ev"),
        "event_time": int(time.time()),
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": team.id,
                "user_id": team.bot.id,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "is_ext_shared_channel": False,
        "event_context": f"4-{new_id('')}",
    }
