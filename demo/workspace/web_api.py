"""The Web API over HTTP: /api/{method}. Authentication, rate limits and faults; the methods themselves are tables."""

from __future__ import annotations

import asyncio
import hmac

from aiohttp import web

from demo.workspace import api_chat, api_conversations, api_other
from demo.workspace.api import Api
from demo.workspace.args import Args, merged
from demo.workspace.errors import ApiError, Json
from demo.workspace.faults import Faults, Kind
from demo.workspace.journal import Journal
from demo.workspace.limits import Limits

METHODS = api_chat.METHODS | api_conversations.METHODS | api_other.METHODS
WITHOUT_TOKEN = frozenset({"api.test"})


class WebApi:
    """Answers the app's calls."""

    def __init__(self, api: Api, token: str, limits: Limits, faults: Faults, journal: Journal) -> None:
        self._api = api
        self._token = token
        self._limits = limits
        self._faults = faults
        self._journal = journal

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call. Refusals are `ok: false` with status 200, as Slack does it; 429 and 500 are the exceptions."""
        method = request.match_info["method"]
        body = await request.read()
        try:
            args = merged(request.query, request.headers.get("Content-Type", ""), body)
        except ApiError as error:
            return self._answer(method, {}, error.answer())
        token = request.headers.get("Authorization", "").removeprefix("Bearer ").strip() or str(args.get("token", ""))
        args.pop("token", None)
        fault = self._faults.take(method)
        if fault is not None and fault.kind is Kind.HTTP_500:
            return self._answer(method, args, {"ok": False, "error": "internal_error"}, 500, fault=fault.kind)
        if fault is not None and fault.kind is Kind.LIMITED:
            return self._limited(method, args, max(1, round(fault.seconds)), fault=fault.kind)
        try:
            self._authorised(method, token)
            wait = self._wait(method, args)
            if wait is not None:
                return self._limited(method, args, wait)
            answer = self._run(method, args)
        except ApiError as error:
            answer = error.answer()
        if fault is not None and fault.kind is Kind.LOST_REPLY:
            self._journal.call(method, args, 0, answer, fault=fault.kind)
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        response = self._answer(method, args, answer, fault=fault.kind if fault else "")
        if fault is not None and fault.kind is Kind.HANG:
            await asyncio.sleep(fault.seconds)
        return response

    def _authorised(self, method: str, token: str) -> None:
        if method not in METHODS:
            raise ApiError("unknown_method", req_method=method)
        if method in WITHOUT_TOKEN and not token:
            return
        if not token:
            raise ApiError("not_authed")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise ApiError("invalid_auth")

    def _wait(self, method: str, args: Json) -> int | None:
        channel = str(args.get("channel", ""))
        named = self._api.team.by_name(channel.removeprefix("#"))
        return self._limits.retry_after(method, METHODS[method].tier, named.id if named else channel)

    def _run(self, method: str, args: Json) -> Json:
        entry, given = METHODS[method], Args(args)
        given.require(*entry.required)
        return entry.run(self._api, given)

    def _limited(self, method: str, args: Json, wait: int, *, fault: str = "") -> web.Response:
        answer = {"ok": False, "error": "ratelimited"}
        return self._answer(method, args, answer, 429, {"Retry-After": str(wait)}, fault)

    def _answer(
        self,
        method: str,
        args: Json,
        answer: Json,
        status: int = 200,
        headers: dict[str, str] | None = None,
        fault: str = "",
    ) -> web.Response:
        self._journal.call(method, args, status, answer, fault)
        return web.json_response(answer, status=status, headers=headers)
