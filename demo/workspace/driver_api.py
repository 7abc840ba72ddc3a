"""The driver over HTTP (/driver/...): scripts and tests read and act as people, and make things go wrong.

Everything is JSON; what cannot be done answers 409 with `error`. `demo.workspace.driver` is the client.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from demo.workspace import wire
from demo.workspace.errors import CannotDo, Json
from demo.workspace.faults import Fault, Kind, kind_of
from demo.workspace.model import Channel, Message, Team
from demo.workspace.people import Outcome

if TYPE_CHECKING:
    from demo.workspace.server import Workspace

WAIT_S = 30.0


def channel_row(team: Team, channel: Channel) -> Json:
    """A channel with its members, pins and bookmarks."""
    extra = {"members": channel.members, "pins": channel.pins, "bookmarks": channel.bookmarks}
    return {**wire.channel_json(team, channel), "name": channel.name, **extra}


def message_row(team: Team, channel: Channel, message: Message) -> Json:
    """A message as the app wrote it, with its replies, and with whom it is visible to."""
    out = wire.message_json(team, message, metadata=True)
    out |= {"channel": channel.id, "visible_to": message.visible_to, "notices": message.notices}
    if not message.is_reply:
        out["replies"] = [message_row(team, channel, reply) for reply in channel.replies(message.ts)]
    return out


async def _body(request: web.Request) -> Json:
    try:
        value = await request.json()
    except ValueError:
        raise CannotDo("the body is not JSON") from None
    if not isinstance(value, dict):
        raise CannotDo("the body is not a JSON object")
    return value


def _need(body: Json, *names: str) -> list[str]:
    for name in names:
        if not isinstance(body.get(name), str) or not body[name]:
            raise CannotDo(f"{name} is missing")
    return [body[name] for name in names]


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise CannotDo(f"{name} is not a number") from None


def _times(body: Json) -> int:
    return int(_number(body.get("times", 1), "times"))


def _outcomes(outcomes: list[Outcome]) -> web.Response:
    return web.json_response({"ok": True, "outcomes": [asdict(outcome) for outcome in outcomes]})


class DriverApi:
    """The handlers."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._team = workspace.team
        self._people = workspace.people

    def register(self, app: web.Application) -> None:
        """Add the routes."""
        for name in ("channels", "messages", "views", "changes", "calls", "deliveries", "received"):
            app.router.add_get(f"/driver/{name}", getattr(self, name))
        for name in ("click", "view_click", "submit", "close", "command", "say", "join", "event", "replay", "fault"):
            app.router.add_post(f"/driver/{name}", getattr(self, name))
        app.router.add_post("/driver/configure", self.configure)

    # -- reading

    async def channels(self, _request: web.Request) -> web.Response:
        """All channels, private and archived ones too."""
        return web.json_response({"channels": [channel_row(self._team, c) for c in self._team.channels.values()]})

    async def messages(self, request: web.Request) -> web.Response:
        """?channel=ID or name: its messages, oldest first, ephemeral ones with `visible_to`."""
        name = request.query.get("channel", "").removeprefix("#")
        channel = self._team.channels.get(name) or self._team.by_name(name)
        if channel is None:
            raise CannotDo(f"there is no channel {name!r}")
        rows = [message_row(self._team, channel, m) for m in channel.messages if not m.is_reply]
        return web.json_response({"channel": channel_row(self._team, channel), "messages": rows})

    async def views(self, request: web.Request) -> web.Response:
        """?user=ID: the views that are open for this person, the visible one last."""
        return web.json_response({"views": self._workspace.api.modals.stack(request.query.get("user", ""))})

    async def changes(self, request: web.Request) -> web.Response:
        """?since=VERSION&timeout=S: answers when something is different, at the latest after the timeout."""
        since = int(_number(request.query.get("since", 0), "since"))
        wait = min(WAIT_S, _number(request.query.get("timeout", 0), "timeout"))
        return web.json_response({"version": await self._team.wait_for_change(since, wait)})

    async def calls(self, _request: web.Request) -> web.Response:
        """All Web API calls, with arguments and answers."""
        return web.json_response({"calls": self._workspace.journal.calls})

    async def deliveries(self, _request: web.Request) -> web.Response:
        """All that was sent to the app, and what it answered."""
        return web.json_response({"deliveries": self._workspace.journal.deliveries})

    async def received(self, _request: web.Request) -> web.Response:
        """Everything that the workspace ever received, as text."""
        return web.Response(text=self._workspace.journal.received)

    # -- acting

    async def click(self, request: web.Request) -> web.Response:
        """{user, channel, ts, action_id[, block_id, value, times]}"""
        body = await _body(request)
        user, channel, ts, action_id = _need(body, "user", "channel", "ts", "action_id")
        block_id, value, times = body.get("block_id"), body.get("value"), _times(body)
        return _outcomes(
            await self._people.click(user, channel, ts, action_id, block_id=block_id, value=value, times=times)
        )

    async def view_click(self, request: web.Request) -> web.Response:
        """{user, view_id, action_id[, value]}"""
        body = await _body(request)
        user, view_id, action_id = _need(body, "user", "view_id", "action_id")
        return _outcomes(await self._people.view_click(user, view_id, action_id, body.get("value")))

    async def submit(self, request: web.Request) -> web.Response:
        """{user, view_id, values[, times]}"""
        body = await _body(request)
        user, view_id = _need(body, "user", "view_id")
        values = body.get("values") or {}
        if not isinstance(values, dict) or not all(isinstance(row, dict) for row in values.values()):
            raise CannotDo("values is block_id -> action_id -> value")
        return _outcomes(await self._people.submit(user, view_id, values, _times(body)))

    async def close(self, request: web.Request) -> web.Response:
        """{user, view_id[, everything]}"""
        body = await _body(request)
        user, view_id = _need(body, "user", "view_id")
        return _outcomes(await self._people.close(user, view_id, everything=bool(body.get("everything"))))

    async def command(self, request: web.Request) -> web.Response:
        """{user, channel, text[, times]}"""
        body = await _body(request)
        user, channel, text = _need(body, "user", "channel", "text")
        return _outcomes(await self._people.command(user, channel, text, _times(body)))

    async def say(self, request: web.Request) -> web.Response:
        """{user, channel, text[, thread_ts]}"""
        body = await _body(request)
        user, channel, text = _need(body, "user", "channel", "text")
        message = self._people.say(user, channel, text, body.get("thread_ts"))
        return web.json_response({"ok": True, "ts": message.ts})

    async def join(self, request: web.Request) -> web.Response:
        """{user, channel}"""
        self._people.join(*_need(await _body(request), "user", "channel"))
        return web.json_response({"ok": True})

    async def event(self, request: web.Request) -> web.Response:
        """{event[, times]}"""
        body = await _body(request)
        if not isinstance(body.get("event"), dict):
            raise CannotDo("event is missing")
        return _outcomes(await self._people.event(body["event"], _times(body)))

    async def replay(self, request: web.Request) -> web.Response:
        """{delivery[, times, age_s, forged]}"""
        body = await _body(request)
        (delivery,) = _need(body, "delivery")
        age_s, times = _number(body.get("age_s", 0), "age_s"), _times(body)
        return _outcomes(await self._people.replay(delivery, times, age_s=age_s, forged=bool(body.get("forged"))))

    # -- making things go wrong

    async def fault(self, request: web.Request) -> web.Response:
        """{kind[, method, times, seconds]}, or {clear: true}. `down` has closed the port when it answers."""
        body = await _body(request)
        answer = web.json_response({"ok": True})
        if body.get("clear"):
            self._workspace.faults.clear()
            return answer
        kind, seconds = kind_of(*_need(body, "kind")), _number(body.get("seconds", 1), "seconds")
        if kind is not Kind.DOWN:
            method, times = str(body.get("method", "*")), _times(body)
            self._workspace.faults.add(Fault(kind=kind, method=method, times=times, seconds=seconds))
            return answer
        await self._workspace.go_down(seconds, keep=request.transport)
        answer.force_close()
        return answer

    async def configure(self, request: web.Request) -> web.Response:
        """{request_url, rate_limits: bool, events: [names]}: each if it is there."""
        body = await _body(request)
        if "request_url" in body:
            self._workspace.delivery.request_url = str(body["request_url"])
        if "rate_limits" in body:
            self._workspace.limits.on = bool(body["rate_limits"])
        if "events" in body:
            self._people.events = frozenset(map(str, body["events"]))
        return web.json_response({"ok": True})
