"""GET /v1/runs/{id}: "is this step finished, may I proceed?", for any agent or person that drives along a run.

It reads, needs the token SIGNALBOX_API_TOKEN, and says where the run stands, never what a gate found or would find.
The same question is answered inside a step's VM by `engine.agents.gateway`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import math
import re
import time
from collections.abc import Callable

import structlog
from aiohttp import web

from bot.crossing import ask
from engine.domain.errors import BadInput
from engine.domain.rate import Rate, full
from engine.service import Service

log = structlog.get_logger(__name__)

RATE = Rate(burst=20, per_minute=60)
RUN_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


class Gateway:
    """The route. `token`: empty: the route is closed. `clock`: monotonic seconds."""

    def __init__(self, service: Service, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._service, self._clock = service, clock
        self._token = hashlib.sha256(token.encode()).digest() if token else None
        self._bucket = full(RATE, clock())

    async def run(self, request: web.Request) -> web.Response:
        """200 with where the run stands; 401, 404, 429 with Retry-After, 503."""
        if self._token is None:
            return _problem(404, "the gateway is closed: set SIGNALBOX_API_TOKEN")
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "replace")
        if not hmac.compare_digest(hashlib.sha256(given).digest(), self._token):
            return _problem(401, "not authenticated", **{"WWW-Authenticate": "Bearer"})
        if wait := self._bucket.take(self._clock()):
            return _problem(429, "asked too often", **{"Retry-After": str(math.ceil(wait))})
        run_id = request.match_info["run"]
        if not RUN_ID.fullmatch(run_id):
            return _problem(404, "there is no such run")
        try:
            found = await ask(self._service.standing, run_id)
        except BadInput as error:
            return _problem(404, str(error))
        except Exception:  # the rim: whoever asks must hear that it is not known, and wait
            log.exception("standing_unknown")
            return _problem(503, "not known now: ask again", **{"Retry-After": "5"})
        return _json(200, dataclasses.asdict(found))


def _json(status: int, value: object, **headers: str) -> web.Response:
    return web.Response(status=status, text=json.dumps(value), content_type="application/json", headers=headers)


def _problem(status: int, reason: str, **headers: str) -> web.Response:
    return _json(status, {"reason": reason}, **headers)
