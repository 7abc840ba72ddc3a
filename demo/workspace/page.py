"""The page where a person reads channels, presses buttons, fills modals and types commands.

Drawn on the server; page.js asks /page/state for what changed and posts to /page/do. It shows what one person sees.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from demo.workspace.api import Api
from demo.workspace.choices import initial
from demo.workspace.errors import CannotDo, Json
from demo.workspace.model import Channel, Message, Person
from demo.workspace.mrkdwn import Renderer, plain
from demo.workspace.people import Outcome, People

HERE = Path(__file__).parent
WAIT_S = 25.0
SAME_BREATH_S = 300
COLOURS = 6
SLACKBOT = Person(id="USLACKBOT", name="slackbot", real_name="Slackbot")
SYSTEM = "channel_"


def _environment() -> Environment:
    loader = FileSystemLoader(HERE / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["plain"] = plain
    environment.filters["confirm"] = _confirm
    environment.filters["picked"] = _picked
    environment.filters["clock"] = lambda ts: time.strftime("%H:%M", time.localtime(float(ts)))
    environment.filters["day"] = lambda ts: time.strftime("%A, %-d %B", time.localtime(float(ts)))
    environment.filters["colour"] = lambda user: sum(map(ord, user)) % COLOURS
    environment.filters["url"] = lambda url: url if url.startswith(("https://", "http://")) else "#"
    return environment


def _confirm(confirm: Json) -> str:
    return json.dumps({name: confirm[name]["text"] for name in ("title", "text", "confirm", "deny")})


def _picked(element: Json, state: Json | None) -> list[str]:
    """The values that show as chosen: what this person chose, else what the element starts with."""
    entry = initial(element) if state is None else state
    one, several = entry.get("selected_option"), entry.get("selected_options")
    options = [one] if one else several or []
    return [option["value"] for option in options] + [user for user in [entry.get("selected_user")] if user]


def _text_of(body: Json, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise CannotDo(f"{name} is missing")
    return value


class Page:
    """The handlers."""

    def __init__(self, api: Api, people: People) -> None:
        self._api = api
        self._team = api.team
        self._people = people
        self._templates = _environment()
        self._acts: dict[str, Callable[[str, Json], Awaitable[list[Outcome]]]] = {
            "type": self._type,
            "click": self._click,
            "view_click": self._view_click,
            "submit": self._submit,
            "close": self._close,
            "join": self._join,
            "read": self._read,
        }

    def register(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/", self.index)
        app.router.add_get("/archives/{channel}/p{ts}", self.permalink)
        app.router.add_get("/page/state", self.state)
        app.router.add_post("/page/do", self.do)
        app.router.add_static("/static/", HERE / "static")

    # -- reading

    def _who(self, request: web.Request) -> Person:
        people = self._team.people
        return people.get(request.query.get("as", "")) or next(iter(people.values()))

    def _where(self, request: web.Request, me: Person) -> Channel | None:
        asked = self._team.channels.get(request.query.get("channel", ""))
        if asked is not None and asked.visible_to(me.id):
            return asked
        return next(iter(self._seen_channels(me)), None)

    def _seen_channels(self, me: Person) -> list[Channel]:
        seen = [c for c in self._team.channels.values() if c.visible_to(me.id)]
        return sorted(seen, key=lambda c: (c.is_im, c.is_archived, me.id not in c.members, c.name))

    async def index(self, request: web.Request) -> web.Response:
        """The whole page, drawn."""
        me = self._who(request)
        channel = self._where(request, me)
        fragments = self._fragments(me, channel)
        template = self._templates.get_template("page.html.j2")
        html = template.render(team=self._team, me=me, channel=channel, people=self._team.people.values(), **fragments)
        return web.Response(text=html, content_type="text/html")

    async def permalink(self, request: web.Request) -> web.Response:
        """Where chat.getPermalink leads."""
        digits = request.match_info["ts"]
        channel = self._team.channels.get(request.match_info["channel"])
        if channel is None or not digits.isdigit():
            raise web.HTTPNotFound(text="no such message")
        raise web.HTTPFound(f"/?channel={channel.id}#m-{digits[:-6]}.{digits[-6:]}")

    async def state(self, request: web.Request) -> web.Response:
        """?as=&channel=&since=: the fragments, as soon as something changed."""
        since = request.query.get("since", "")
        if since.isdigit():
            await self._team.wait_for_change(int(since), WAIT_S)
        me = self._who(request)
        return web.json_response(self._fragments(me, self._where(request, me)))

    def _fragments(self, me: Person, channel: Channel | None) -> Json:
        """Everything that changes: sidebar, head, foot, messages (key and HTML each), the open view."""
        channels = self._seen_channels(me)
        about = {"team": self._team, "me": me, "channel": channel}
        rows = [{"channel": c, "unread": self._unread(c, me), "called": self._called(c, me)} for c in channels]
        stack = self._api.modals.stack(me.id)
        view = stack[-1] if stack else None
        return {
            "version": self._team.version,
            "sidebar": self._draw("sidebar.html.j2", rows=rows, **about),
            "head": self._draw("head.html.j2", **about),
            "foot": self._draw("foot.html.j2", **about),
            "messages": self._messages(me, channel) if channel else [],
            "view": {"key": f"{view['id']} {view['hash']}", "html": self._view(me, view)} if view else None,
        }

    def _draw(self, template: str, **values: Any) -> str:
        return self._templates.get_template(template).render(**values)

    def _view(self, me: Person, view: Json) -> str:
        renderer = Renderer(self._team, me.id)
        return self._draw("view.html.j2", view=view, mrkdwn=renderer.html, people=self._team.people.values())

    def _new(self, channel: Channel, me: Person) -> list[Message]:
        last = channel.read.get(me.id, "")
        member = me.id in channel.members
        return [m for m in channel.messages if member and m.ts > last and m.visible_to in (None, me.id)]

    def _unread(self, channel: Channel, me: Person) -> bool:
        return any(not (m.subtype or "").startswith(SYSTEM) for m in self._new(channel, me))

    def _called(self, channel: Channel, me: Person) -> int:
        """How many unread messages name this person, or are for them alone."""
        call = f"<@{me.id}>"
        return sum(
            m.visible_to == me.id or call in m.text or call in json.dumps(m.blocks)
            for m in self._new(channel, me)
            if not m.subtype
        )

    def _messages(self, me: Person, channel: Channel) -> list[Json]:
        out = []
        before: Message | None = None
        for message in channel.messages:
            if message.visible_to not in (None, me.id) or (message.is_reply and not message.broadcast):
                continue
            html = self._message(me, channel, message, before)
            out.append({"key": f"m-{message.ts}", "html": html})
            before = message
        return out

    def _message(self, me: Person, channel: Channel, message: Message, before: Message | None) -> str:
        authors = {p.id: p for p in (*self._team.everybody(), SLACKBOT)}
        day = time.localtime(float(message.ts))[:3]
        replies = [r for r in channel.replies(message.ts) if r.visible_to in (None, me.id)]
        return self._draw(
            "message.html.j2",
            message=message,
            channel=channel,
            replies=replies if not message.is_reply else [],
            authors=authors,
            me=me,
            mrkdwn=Renderer(self._team, me.id).html,
            markdown=Renderer(self._team, me.id).markdown,
            people=self._team.people.values(),
            new_day=before is None or time.localtime(float(before.ts))[:3] != day,
            follows=before is not None and _follows(before, message),
        )

    # -- acting

    async def do(self, request: web.Request) -> web.Response:
        """{as, act, ...}: answers {ok, seen, errors}; 409 with `error` for what cannot be done."""
        try:
            body = await request.json()
        except ValueError:
            raise CannotDo("the body is not JSON") from None
        if not isinstance(body, dict):
            raise CannotDo("the body is not a JSON object")
        act = self._acts.get(_text_of(body, "act"))
        if act is None:
            raise CannotDo("there is no such act")
        outcomes = await act(_text_of(body, "as"), body)
        return web.json_response({"ok": True, "seen": outcomes[0].seen, "errors": outcomes[0].errors})

    async def _type(self, user: str, body: Json) -> list[Outcome]:
        thread = body.get("thread_ts")
        return await self._people.type(
            user, _text_of(body, "channel"), _text_of(body, "text"), thread if isinstance(thread, str) else None
        )

    async def _click(self, user: str, body: Json) -> list[Outcome]:
        where = [_text_of(body, name) for name in ("channel", "ts", "action_id")]
        block_id = _text_of(body, "block_id")
        return await self._people.click(user, *where, block_id=block_id, value=body.get("value"))

    async def _view_click(self, user: str, body: Json) -> list[Outcome]:
        return await self._people.view_click(
            user, _text_of(body, "view_id"), _text_of(body, "action_id"), body.get("value")
        )

    async def _submit(self, user: str, body: Json) -> list[Outcome]:
        values = body.get("values")
        if not isinstance(values, dict) or not all(isinstance(row, dict) for row in values.values()):
            raise CannotDo("values is block_id -> action_id -> value")
        return await self._people.submit(user, _text_of(body, "view_id"), values)

    async def _close(self, user: str, body: Json) -> list[Outcome]:
        return await self._people.close(user, _text_of(body, "view_id"), everything=bool(body.get("everything")))

    async def _join(self, user: str, body: Json) -> list[Outcome]:
        self._people.join(user, _text_of(body, "channel"))
        return [Outcome()]

    async def _read(self, user: str, body: Json) -> list[Outcome]:
        self._people.read(user, _text_of(body, "channel"))
        return [Outcome()]


def _follows(before: Message, message: Message) -> bool:
    """Written by the same author right after: drawn without name and picture again."""
    soon = float(message.ts) - float(before.ts) < SAME_BREATH_S
    alike = before.user == message.user and not before.subtype and not message.subtype
    plain_lines = not message.blocks and not message.visible_to and not before.visible_to
    return soon and alike and plain_lines
