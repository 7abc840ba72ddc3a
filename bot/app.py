"""The whole bot as one aiohttp application. `bot.main` makes the service and the options, and runs this."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog
from aiohttp import web

from bot.options import BotOptions
from bot.slack.channels import Channels
from bot.slack.delivery import Delivery
from bot.slack.front import Front, make_bolt, make_client
from bot.slack.pacing import Pace
from bot.slack.sender import Sender
from bot.slack.workspace import Workspace
from bot.web.alerts import MAX_BODY, Receiver
from bot.web.gateway import Gateway
from bot.web.pages import Pages
from bot.web.probes import Probes
from bot.web.safety import add_headers
from engine.service import Service

log = structlog.get_logger(__name__)

NO_SLACK = {"slack": "not connected: set SIGNALBOX_SLACK_BOT_TOKEN and SIGNALBOX_SLACK_SIGNING_SECRET"}


THREADS = 24
""" For calls to the service; Python's own choice (cores + 4) would let a few slow ones stop all the others. """


async def _give_threads(_app: web.Application) -> None:
    pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="ask")
    asyncio.get_running_loop().set_default_executor(pool)


def create_app(service: Service, options: BotOptions) -> web.Application:
    """Alerts in, Slack in and out, pages, health, metrics. The outbox sender lives as long as the application."""
    app = web.Application(client_max_size=MAX_BODY)
    app.on_startup.append(_give_threads)
    app.on_response_prepare.append(add_headers)
    app.router.add_post("/alerts/{source}", Receiver(service).post)
    app.router.add_get("/v1/runs/{run}", Gateway(service, options.api_token).run)
    pages = Pages(service, options.public_url)
    app.router.add_get("/", pages.index)
    app.router.add_get("/incidents/{number}", pages.incident)
    app.router.add_get("/incidents/{number}/attempts/{attempt}", pages.attempt)
    app.router.add_get("/static/style.css", pages.style)
    app.router.add_get("/static/icon.svg", pages.icon)
    sender = _add_slack(app, service, options) if options.has_slack else None
    probes = Probes(service, sender.unwell if sender else _no_slack, lambda: sender.counts if sender else {})
    app.router.add_get("/healthz", probes.healthz)
    app.router.add_get("/metrics", probes.metrics)
    return app


def _no_slack() -> Mapping[str, str]:
    return NO_SLACK


def _add_slack(app: web.Application, service: Service, options: BotOptions) -> Sender:
    client = make_client(options, options.slack_bot_token)
    workspace = Workspace(client, Pace())
    channels = Channels(service, workspace, options)
    sender = Sender(service, Delivery(service, workspace, channels, options))
    app.router.add_post("/slack/events", Front(make_bolt(service, options, client)).post)

    async def life(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(sender.run(), name="outbox sender")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app.cleanup_ctx.append(life)
    return sender
