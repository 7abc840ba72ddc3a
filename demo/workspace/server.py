"""The workspace as a server: puts the parts together, listens on loopback, goes down and up again on demand."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from demo.workspace import guard, store
from demo.workspace.answers import Answers
from demo.workspace.api import Api
from demo.workspace.delivery import Delivery
from demo.workspace.driver_api import DriverApi
from demo.workspace.faults import Faults
from demo.workspace.journal import Journal
from demo.workspace.limits import Limits
from demo.workspace.modals import Modals
from demo.workspace.model import Channel, Person, Team, new_id
from demo.workspace.onetime import OneTime
from demo.workspace.page import Page
from demo.workspace.people import People
from demo.workspace.web_api import WebApi

HOST = "127.0.0.1"
REQUEST_BYTES = 8 * 1024 * 1024

ANA = Person(id="U0ANA00001", name="ana", real_name="Ana Ruiz", title="on call")
BEN = Person(id="U0BEN00001", name="ben", real_name="Ben Okafor", title="approver")
CLEO = Person(id="U0CLEO0001", name="cleo", real_name="Cleo Martin", title="may not approve")
PEOPLE = (ANA, BEN, CLEO)
BOT = Person(id="U0SIGNALBX", name="signalbox", real_name="Signalbox", is_bot=True)


class Workspace:
    """One workspace with one app installed. `async with Workspace(...)`, or `start()` and `stop()`.

    `port` 0: any free one, see `url`. `state_file`: where channels and messages survive a restart (received text goes
    beside it, `.received`). `commands`, `events`: what the app registered. `time_factor`: rate limits and event retries
    run that much faster. `channels`: made at the first start with all people in them; the app is in none.
    """

    def __init__(
        self,
        *,
        signing_secret: str,
        bot_token: str,
        port: int = 0,
        request_url: str = "",
        users: Sequence[Person] = PEOPLE,
        usergroups: Mapping[str, Sequence[str]] | None = None,
        commands: Collection[str] = ("/signalbox",),
        events: Collection[str] = (),
        channels: Collection[str] = ("general",),
        state_file: Path | None = None,
        time_factor: float = 1.0,
    ) -> None:
        self._port = port
        self._state_file = state_file
        self.team = Team(people={p.id: p for p in users}, bot=BOT, usergroups=dict(usergroups or {}))
        self.journal = Journal(state_file.with_suffix(".received") if state_file else None)
        self.faults = Faults()
        self.limits = Limits(time_factor)
        self.api = Api(team=self.team, modals=Modals(self.team), once=OneTime())
        self.delivery = Delivery(signing_secret, request_url, self.journal, time_factor)
        answers = Answers(self.api, self.journal)
        self.people = People(self.api, self.delivery, answers, commands)
        self.people.events = frozenset(events)
        web_api = WebApi(self.api, bot_token, self.limits, self.faults, self.journal)
        self._app = web.Application(
            client_max_size=REQUEST_BYTES, middlewares=[guard.middleware(self._hosts, self.journal)]
        )
        self._app.router.add_route("*", "/api/{method}", web_api.handle)
        self._app.router.add_post("/hooks/{key}", answers.handle)
        DriverApi(self).register(self._app)
        Page(self.api, self.people).register(self._app)
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        self._site: web.SockSite | None = None
        self._again: asyncio.Task[None] | None = None
        self._seed(channels)

    def _seed(self, channels: Collection[str]) -> None:
        if self._state_file is None or not store.load(self.team, self._state_file):
            for name in channels:
                channel = Channel(id=new_id("C"), name=name, creator="USLACKBOT", created=int(time.time()))
                channel.members.extend(self.team.people)
                self.team.channels[channel.id] = channel

    def _save(self) -> None:
        if self._state_file is not None:
            store.save(self.team, self._state_file)

    def _hosts(self) -> frozenset[str]:
        return frozenset(f"{name}:{self._port}" for name in (HOST, "localhost"))

    @property
    def url(self) -> str:
        """Where people open it, without a slash at the end."""
        return f"http://{HOST}:{self._port}"

    @property
    def api_url(self) -> str:
        """The base URL for slack_sdk."""
        return f"{self.url}/api/"

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self.team.on_change = self._save
        self.team.tell = self.people.tell
        await self.delivery.start()
        await self._runner.setup()
        await self._listen()
        self.team.url = self.url

    async def stop(self) -> None:
        """Close everything; the state is in the file already."""
        if self._again is not None:
            self._again.cancel()
        await self._runner.cleanup()
        await self.delivery.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _listen(self) -> None:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, self._port))
        except OSError:
            listening.close()
            raise
        self._port = listening.getsockname()[1]
        self._site = web.SockSite(self._runner, listening)
        await self._site.start()

    async def go_down(self, seconds: float, keep: asyncio.BaseTransport | None = None) -> None:
        """Refuse connections for a while: the port is closed, open connections break (but the one in `keep`, on which
        the answer to this very wish goes out). The page is gone meanwhile."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._again = asyncio.get_running_loop().create_task(self._come_back(seconds))
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None and connection.transport is not keep:
                connection.transport.abort()

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()
