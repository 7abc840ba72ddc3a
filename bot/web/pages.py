"""The dashboard: GET / and GET /incidents/{number}. It reads and never changes anything, so it needs no login."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from bot.crossing import ask
from bot.views import story
from bot.views.render import HERE, page
from engine.domain.errors import BadInput
from engine.domain.incident import IncidentView, SwitchView
from engine.service import Service

log = structlog.get_logger(__name__)

MAX_LISTED = 100
MAX_DIGITS = 9
HEALTH_S = 2.0

T = TypeVar("T")


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html")


def _problem(status: int, title: str, text: str, switch: SwitchView | None) -> web.Response:
    return _html(page("problem.html.j2", title=title, text=text, switch=switch), status)


class Pages:
    """The routes."""

    def __init__(self, service: Service, public_url: str) -> None:
        self._service = service
        self._hosts = frozenset({"localhost", "127.0.0.1", "::1", urlsplit(public_url).hostname or ""})
        self._style = (HERE / "static" / "style.css").read_text()
        self._icon = (HERE / "static" / "icon.svg").read_text()

    def _refuse_foreign(self, request: web.Request) -> None:
        """A name that a stranger's DNS points at this machine must not let his page read ours (DNS rebinding)."""
        if urlsplit(f"//{request.host}").hostname not in self._hosts:
            raise web.HTTPMisdirectedRequest(text="Unknown host. Set SIGNALBOX_PUBLIC_URL to the address you use.")

    async def index(self, request: web.Request) -> web.Response:
        """All incidents, those that wait for a person first."""
        self._refuse_foreign(request)
        try:
            summaries = await ask(self._service.incidents, limit=MAX_LISTED)
        except Exception:  # the rim: whoever looks at the dashboard is in trouble already
            log.exception("page_failed")
            return _down()
        unwell, workers = await self._unwell(), await self._told(self._service.workers)
        ordered = sorted(summaries, key=lambda each: (each.closed_at is not None, not each.waits_for, -each.number))
        return _html(
            page("index.html.j2", incidents=ordered, unwell=unwell, workers=workers, switch=await self._switch())
        )

    async def _unwell(self) -> Mapping[str, str]:
        """What is wrong; a part that hangs must not hang the list."""
        try:
            async with asyncio.timeout(HEALTH_S):
                unwell = await ask(self._service.healthy)
        except Exception as error:  # the rim, as above
            log.exception("health_unknown")
            return {"health": f"cannot be told ({type(error).__name__})"}
        return {part: why for part, why in unwell.items() if part != "kill switch"}  # the banner says it

    async def _switch(self) -> SwitchView | None:
        """How the kill switch stands; None where that cannot be told."""
        return await self._told(self._service.kill_switch)

    async def _told(self, look: Callable[[], T]) -> T | None:
        """What stands beside the page's own matter: without it the rest is still shown."""
        try:
            async with asyncio.timeout(HEALTH_S):
                return await ask(look)
        except Exception:  # the rim, as above
            log.exception("a_part_of_the_page_is_missing")
            return None

    async def incident(self, request: web.Request) -> web.Response:
        """One incident with everything that was measured."""
        return await self._of_incident(request, lambda _incident: ("incident.html.j2", {}))

    async def attempt(self, request: web.Request) -> web.Response:
        """One attempt and what it prints, while it runs too."""

        def found(incident: IncidentView) -> tuple[str, Mapping[str, object]]:
            run, attempt = story.attempt(incident, request.match_info["attempt"])
            return "attempt.html.j2", {"run": run, "attempt": attempt}

        return await self._of_incident(request, found)

    async def _of_incident(
        self, request: web.Request, look: Callable[[IncidentView], tuple[str, Mapping[str, object]]]
    ) -> web.Response:
        """`look`: the template, and what it needs beside the incident; raises LookupError when that is not there."""
        self._refuse_foreign(request)
        text = request.match_info["number"]
        if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
            why = "An incident's address ends in its number."
            return _problem(404, "No such incident", why, await self._switch())
        try:
            incident = await ask(self._service.incident, int(text))
        except BadInput as error:
            return _problem(404, "No such incident", str(error), await self._switch())
        except Exception:  # the rim, as above
            log.exception("page_failed")
            return _down()
        try:
            template, more = look(incident)
        except LookupError:
            return _problem(404, "No such attempt", "The incident's page lists its attempts.", await self._switch())
        return _html(page(template, incident=incident, switch=await self._switch(), **more))

    async def style(self, _request: web.Request) -> web.Response:
        """The one style sheet."""
        return web.Response(text=self._style, content_type="text/css", headers={"Cache-Control": "max-age=300"})

    async def icon(self, _request: web.Request) -> web.Response:
        """The picture in the browser's tab."""
        return web.Response(text=self._icon, content_type="image/svg+xml", headers={"Cache-Control": "max-age=300"})


def _down() -> web.Response:
    text = "The database does not answer. What happened is kept; `signalbox doctor` on the machine says what is wrong."
    return _problem(503, "Signalbox cannot look right now", text, None)
