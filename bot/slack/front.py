"""The door that Slack knocks at: POST /slack/events for clicks, forms, commands and Slack's own questions.

slack-bolt checks the signature and routes; we mount it ourselves because its own server binds all interfaces. Acts are
carried out before the answer (`process_before_response`): persisted, then acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_sdk.web.async_client import AsyncWebClient

from bot.options import BotOptions
from bot.slack import actions, commands, forms
from bot.slack.desk import Desk
from bot.web.body import read_capped
from engine.service import Service

MAX_BODY = 1 << 20
""" Slack's own limit for a view is 250 KB; a click carries its message. """
CALL_TIMEOUT_S = 10
MAX_STAMP = 12


def make_client(options: BotOptions, token: str | None) -> AsyncWebClient:
    """A client that never repeats a call by itself: only the outbox may."""
    base = options.slack_api_url.rstrip("/") + "/"
    return AsyncWebClient(token=token, base_url=base, timeout=CALL_TIMEOUT_S, retry_handlers=[])


def make_bolt(service: Service, options: BotOptions, client: AsyncWebClient) -> AsyncApp:
    """The app with every handler."""

    async def authorize(enterprise_id: str | None, team_id: str | None) -> AuthorizeResult:
        # One workspace, one token: asking Slack about it at each click would cost part of the three seconds.
        return AuthorizeResult(enterprise_id=enterprise_id, team_id=team_id, bot_token=options.slack_bot_token)

    app = AsyncApp(
        client=make_client(options, None),  # gets its token from `authorize`, at each request
        signing_secret=options.slack_signing_secret,
        authorize=authorize,
        process_before_response=True,
    )
    desk = Desk(service=service, client=client, options=options)
    actions.register(app, desk)
    forms.register(app, desk)
    commands.register(app, desk)
    return app


class Front:
    """The route."""

    def __init__(self, app: AsyncApp) -> None:
        self._app = app

    async def post(self, request: web.Request) -> web.Response:
        """Verify and carry out; 401 for what Slack did not sign, or signed more than five minutes ago."""
        stamp = request.headers.get("X-Slack-Request-Timestamp", "")
        if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= MAX_STAMP):
            return web.Response(status=401)  # bolt answers 500 to garbage here
        body = await read_capped(request, MAX_BODY)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return web.Response(status=400)
        headers: dict[str, str | Sequence[str]] = dict(request.headers.items())
        bolt_request = AsyncBoltRequest(body=text, query=request.query_string, headers=headers)
        return await to_aiohttp_response(await self._app.async_dispatch(bolt_request))
