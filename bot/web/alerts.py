"""POST /alerts/{source}: a body in, an answer within a second. `bot.app` mounts it.

The codes are chosen for what senders do with them: 503 is the one that Alertmanager, PagerDuty, SNS, Datadog and Azure
all send again; 429 and 500 are dropped by some of them, so neither is ever answered.
"""

from __future__ import annotations

import asyncio
import json

import structlog
from aiohttp import web

from bot.crossing import ask
from bot.web.body import read_capped
from engine.domain.errors import BadInput, SignalboxError, TooLarge, Unauthenticated
from engine.service import Service

log = structlog.get_logger(__name__)

MAX_BODY = 32 << 20
""" 5,000 alerts of one Alertmanager group are 3.4 MB (measured); each trigger has a lower limit of its own. """
AT_ONCE = 8
""" Bodies held in memory at once: whoever is not authenticated yet may fill no more. """
KEEP_S = 4.0
""" PagerDuty waits five seconds, Alertmanager ten. A body kept after we gave up is the same delivery next time. """


def _answer(status: int, reason: str, **headers: str) -> web.Response:
    body = json.dumps({"reason": reason[:300]})
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)


def _legible_headers(request: web.Request) -> dict[str, str] | None:
    """Header names in lower case; None when a value is not text. Repeated headers are joined, as HTTP says."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        if not value.isascii() or not value.isprintable():
            return None
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known}, {value}"
    return headers


class Receiver:
    """The route."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._room = asyncio.Semaphore(AT_ONCE)

    async def post(self, request: web.Request) -> web.Response:
        """202 for a new delivery, 200 for one that we have; 400, 401, 404, 408, 413 for what will never be taken."""
        headers = _legible_headers(request)
        if headers is None:
            return _answer(400, "a header is not plain text")
        if headers.get("content-encoding", "identity") != "identity":
            return _answer(400, "send the body uncompressed")
        if self._room.locked():
            return _answer(503, "busy: send it again", **{"Retry-After": "5"})
        async with self._room:
            body = await read_capped(request, MAX_BODY)
            return await self._keep(request.match_info["source"], headers, body)

    async def _keep(self, source: str, headers: dict[str, str], body: bytes) -> web.Response:
        try:
            async with asyncio.timeout(KEEP_S):
                new = await ask(self._service.receive, source, headers, body)
        except Unauthenticated:
            return _answer(401, "not authenticated", **{"WWW-Authenticate": "Bearer"})
        except TooLarge as error:
            return _answer(413, str(error))
        except BadInput:
            return _answer(404, "there is no such source")
        except (SignalboxError, TimeoutError) as error:
            log.warning("alert_not_kept", source=source[:80], kind=type(error).__name__)
            return _answer(503, "not kept: send it again", **{"Retry-After": "5"})
        except Exception:  # the rim: a sender that gets 500 may drop the alert for ever
            log.exception("alert_not_kept", source=source[:80])
            return _answer(503, "not kept: send it again", **{"Retry-After": "5"})
        return _answer(202, "accepted") if new else _answer(200, "known already")
