"""GET /healthz and GET /metrics, for machines that watch us.

Metrics in Prometheus's text format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping

import structlog
from aiohttp import web

from bot.crossing import ask
from engine.domain.errors import SignalboxError
from engine.service import Service

log = structlog.get_logger(__name__)

ANSWER_S = 5.0
HELP = {
    "incidents_open": "Incidents that are open.",
    "kill_switch": "1 while the kill switch is on.",
    "workers": "Workers that live, by pool.",
    "runs": "Runs by state.",
    "outbox_rows": "Slack messages by what became of them.",
    "inbox_rejected": "Alert bodies that were authenticated and could not be read.",
    "slack_rows": "What the sender did since it started.",
}
LABELS = {"workers": "pool"}
""" What the values of a metric are told apart by; `state` where nothing else is said. """
Numbers = Mapping[str, Mapping[str, int]]


class Probes:
    """The routes. `unwell` and `counts` come from the outbox sender."""

    def __init__(
        self, service: Service, unwell: Callable[[], Mapping[str, str]], counts: Callable[[], Mapping[str, int]]
    ) -> None:
        self._service = service
        self._unwell = unwell
        self._counts = counts

    async def healthz(self, _request: web.Request) -> web.Response:
        """200 and {} when all is well; otherwise 503 and what is not."""
        try:
            async with asyncio.timeout(ANSWER_S):
                unwell = {**await ask(self._service.healthy), **self._unwell()}
        except TimeoutError:
            unwell = {"engine": f"no answer within {ANSWER_S:.0f} s"}
        except Exception as error:  # the rim: not being able to say is being unwell
            log.exception("health_unknown")
            unwell = {"engine": str(error) if isinstance(error, SignalboxError) else type(error).__name__}
        body = json.dumps(unwell, ensure_ascii=False)
        return web.Response(status=503 if unwell else 200, text=body, content_type="application/json")

    async def metrics(self, _request: web.Request) -> web.Response:
        """Gauges as text."""
        try:
            async with asyncio.timeout(ANSWER_S):
                numbers = await ask(self._service.metrics)
        except Exception:  # the rim: a scrape that fails is a gap, a made-up number would be a lie
            log.exception("metrics_unknown")
            return web.Response(status=503, text="")
        everything = {**numbers, "slack_rows": self._counts()}
        return web.Response(text="\n".join(_lines(everything)) + "\n", content_type="text/plain")


def _lines(numbers: Numbers) -> Iterator[str]:
    for name, values in numbers.items():
        yield f"# HELP signalbox_{name} {HELP.get(name, name)}"
        yield f"# TYPE signalbox_{name} gauge"
        for label, value in values.items():
            where = f'{{{LABELS.get(name, "state")}="{label}"}}' if label else ""
            yield f"signalbox_{name}{where} {value}"
