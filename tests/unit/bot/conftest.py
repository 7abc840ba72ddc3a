"""The bot as a running application, with a fake front door behind it and a recording Slack beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bot.app import create_app
from bot.options import BotOptions
from tests.doubles import incidents as told
from tests.doubles.service import FakeService
from tests.doubles.slack import SECRET, interaction, signed

Json = dict[str, Any]
API_TOKEN = "may-ask-where-a-run-stands"


@dataclass
class Recorder:
    """What our app said to Slack's API and to response_urls. `answers[method]` replaces the answer."""

    url: str = ""
    calls: list[tuple[str, Json]] = field(default_factory=list)
    private: list[Json] = field(default_factory=list)
    answers: dict[str, Json] = field(default_factory=dict)

    async def api(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        self.calls.append((method, await request.json()))
        return web.json_response(self.answers.get(method, {"ok": True}))

    async def respond(self, request: web.Request) -> web.Response:
        self.private.append(await request.json())
        return web.Response(text="ok")

    def opened(self) -> list[Json]:
        """The views that were opened."""
        return [args["view"] for method, args in self.calls if method == "views.open"]


@dataclass
class Bot:
    """The running bot."""

    client: TestClient[web.Request, web.Application]
    service: FakeService
    slack: Recorder

    async def send(self, body: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Send a signed request as Slack does; returns status and body."""
        sent = signed(body) if headers is None else headers
        async with self.client.post("/slack/events", data=body, headers=sent) as answer:
            return answer.status, await answer.text()

    async def act(self, payload: Json) -> tuple[int, str]:
        """Send an interaction."""
        return await self.send(interaction(payload))


@pytest.fixture
def service() -> FakeService:
    return FakeService(told.incident())


@pytest.fixture
async def slack() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    app = web.Application()
    app.router.add_post("/api/{method}", recorder.api)
    app.router.add_post("/respond", recorder.respond)
    async with TestServer(app) as server:
        recorder.url = str(server.make_url("/")).rstrip("/")
        yield recorder


def _options(slack: Recorder, api_token: str) -> BotOptions:
    return BotOptions(
        public_url="https://box.test",
        slack_bot_token="xoxb-test",
        slack_signing_secret=SECRET,
        slack_api_url=f"{slack.url}/api/",
        api_token=api_token,
        invite=("U0ALICE1",),
    )


@pytest.fixture
async def bot(service: FakeService, slack: Recorder) -> AsyncIterator[Bot]:
    async with TestClient(TestServer(create_app(service, _options(slack, API_TOKEN)))) as client:
        yield Bot(client, service, slack)


@pytest.fixture
async def closed_bot(service: FakeService, slack: Recorder) -> AsyncIterator[Bot]:
    """One without a token for its gateway."""
    async with TestClient(TestServer(create_app(service, _options(slack, "")))) as client:
        yield Bot(client, service, slack)
