"""A small real slack_bolt application in its own aiohttp server, for the workspace to deliver to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response, to_bolt_request
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.respond.async_respond import AsyncRespond
from slack_sdk.web.async_client import AsyncWebClient

from demo.workspace import Workspace

SECRET = "signing-secret"
TOKEN = "xoxb-test"

Payload = dict[str, Any]


def text(words: str) -> Payload:
    """A plain_text object."""
    return {"type": "plain_text", "text": words}


def buttons(*names: str, **more: Any) -> Payload:
    """An actions block with a button for each name; its action_id is the name."""
    rows = [{"type": "button", "text": text(n), "action_id": n, "value": f"token-{n}", **more} for n in names]
    return {"type": "actions", "elements": rows}


NOTE: Payload = {
    "type": "modal",
    "callback_id": "note",
    "notify_on_close": True,
    "private_metadata": "INC-7",
    "title": text("Harness note"),
    "submit": text("Save"),
    "blocks": [
        {
            "type": "input",
            "block_id": "what",
            "label": text("What to change"),
            "element": {"type": "plain_text_input", "action_id": "v", "multiline": True},
        },
        {
            "type": "input",
            "block_id": "how",
            "label": text("How it went"),
            "element": {
                "type": "static_select",
                "action_id": "v",
                "options": [{"text": text(o), "value": o} for o in ("followed", "drifted", "skipped")],
            },
        },
    ],
}


@dataclass(slots=True)
class Bot:
    """The running application: its client, and what it got."""

    client: AsyncWebClient
    seen: list[Payload] = field(default_factory=list)
    slow: asyncio.Event = field(default_factory=asyncio.Event)
    events: asyncio.Queue[Payload] = field(default_factory=asyncio.Queue)
    events_to_fail: int = 0


def _register_actions(app: AsyncApp, bot: Bot) -> None:
    @app.command("/signalbox")
    async def command(ack: AsyncAck, body: Payload) -> None:
        bot.seen.append(body)
        if body["text"] == "hang":
            await bot.slow.wait()
        if body["text"] == "public":
            await ack(text="for all", response_type="in_channel")
        else:
            await ack(text=f"You said {body['text']}")

    @app.action("note")
    async def note(ack: AsyncAck, body: Payload) -> None:
        bot.seen.append(body)
        await bot.client.views_open(trigger_id=body["trigger_id"], view=NOTE)
        await ack()

    @app.action("approve")
    async def approve(ack: AsyncAck, body: Payload, respond: AsyncRespond) -> None:
        bot.seen.append(body)
        await respond(text="You may not: Ben may.", response_type="ephemeral", replace_original=False)
        await ack()

    @app.action("choose")
    async def choose(ack: AsyncAck, body: Payload) -> None:
        bot.seen.append(body)
        await ack()

    @app.action("hang")
    async def hang(ack: AsyncAck, body: Payload) -> None:
        bot.seen.append(body)
        await bot.slow.wait()
        await ack()


def _register_views(app: AsyncApp, bot: Bot) -> None:
    @app.view("note")
    async def saved(ack: AsyncAck, body: Payload) -> None:
        bot.seen.append(body)
        words = body["view"]["state"]["values"]["what"]["v"]["value"]
        if words == "short":
            await ack(response_action="errors", errors={"what": "A little longer, please."})
        elif words == "update":
            await ack(response_action="update", view={**NOTE, "title": text("Again")})
        elif words == "wrong":
            await ack(response_action="errors", errors={"nowhere": "?"})
        else:
            await ack()

    @app.view_closed("note")
    async def closed(ack: AsyncAck, body: Payload) -> None:
        bot.seen.append(body)
        await ack()


def _register_events(app: AsyncApp, bot: Bot) -> None:
    @app.event("member_joined_channel")
    async def joined(body: Payload) -> None:
        if bot.events_to_fail:
            bot.events_to_fail -= 1
            raise RuntimeError("this event is refused on purpose")
        bot.events.put_nowait(body)


@asynccontextmanager
async def workspace_with_bot(**settings: Any) -> AsyncIterator[tuple[Workspace, Bot]]:
    """A workspace and a bolt application that is installed in it."""
    workspace = Workspace(signing_secret=SECRET, bot_token=TOKEN, **settings)
    async with workspace:
        # only the outbox retries; here, nobody does
        client = AsyncWebClient(token=TOKEN, base_url=workspace.api_url, retry_handlers=[])
        app = AsyncApp(signing_secret=SECRET, client=client, process_before_response=True)
        bot = Bot(client)
        for register in (_register_actions, _register_views, _register_events):
            register(app, bot)

        async def endpoint(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse = await to_aiohttp_response(
                await app.async_dispatch(await to_bolt_request(request))
            )
            return response

        server = web.Application()
        server.router.add_post("/slack/events", endpoint)
        runner = web.AppRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        workspace.delivery.request_url = f"http://127.0.0.1:{port}/slack/events"
        try:
            yield workspace, bot
        finally:
            bot.slow.set()
            await runner.cleanup()
