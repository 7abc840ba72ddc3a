"""Gate kind `promql`: an instant query to the configured Prometheus. Called through `kinds()`.

No data never holds. Prometheus answers an instant query with samples up to five minutes old and stamps them with the
time of the query, so the age is asked for apart: `timestamp()` of every series that the query reads. This also finds
`... or vector(0)`, which would make a number out of nothing.
https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries (and /querying/basics/#staleness)
"""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from typing import Any

from engine.domain.errors import SignalboxError
from engine.domain.gate import Check, Facts, Json, PromqlCheck, Sample
from engine.domain.ports import Measure, Probe
from engine.domain.states import Verdict
from engine.gates import evidence, web
from engine.gates.condition import judge
from engine.gates.filling import fill
from engine.gates.selectors import selectors

MAX_SERIES = 100
MAX_SELECTORS = 8
SCRAPE_S = 1.0


def age_of(selector: str) -> str:
    """The query for the seconds since the oldest fresh sample of what a selector reads."""
    return f"max(time() - timestamp({selector}))"


class NoData(Exception):
    """There is nothing to judge; the message says why."""


class OlderThanTheChange(NoData):
    """There are samples, but none since the change: the next scrape brings one."""


class Broken(Exception):
    """The question itself is wrong; the message says why."""


def build(prometheus_url: str, get: web.Get = web.get) -> Measure:
    """The kind, bound to one Prometheus; an empty URL means that none is configured. `get`: who asks."""

    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:  # noqa: ARG001 - the port has it
        """Ask once. No series, NaN, samples too old, a Prometheus that does not answer: INCONCLUSIVE."""
        if not isinstance(check, PromqlCheck):
            return Sample(verdict=Verdict.ERROR, why="not a promql check")
        if not prometheus_url:
            return Sample(verdict=Verdict.ERROR, why="no Prometheus is configured: set SIGNALBOX_PROMETHEUS_URL")
        try:
            query = fill(check.query, check.target, facts, _escape)
            return _patiently(_Question(prometheus_url.rstrip("/"), query, check, facts.changed_at, get))
        except (SignalboxError, Broken) as error:
            return Sample(verdict=Verdict.ERROR, why=str(error), seen={"query": check.query})
        except NoData as error:
            return Sample(verdict=Verdict.INCONCLUSIVE, why=str(error), seen={"query": check.query})

    return measure


def _patiently(question: _Question) -> Sample:
    """Ask again while the newest sample is older than the change, within the check's timeout; raises as `sample`."""
    deadline = time.monotonic() + question.check.timeout_s
    while True:
        try:
            return question.sample()
        except OlderThanTheChange:
            if time.monotonic() > deadline:
                raise
            time.sleep(SCRAPE_S)


def _escape(value: str) -> str:
    """For within a quoted string of PromQL, where lint wants placeholders to stand."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'").replace("\n", "\\n")


class _Question:
    """One query with its freshness, asked of one Prometheus."""

    def __init__(self, url: str, query: str, check: PromqlCheck, changed_at: datetime | None, get: web.Get) -> None:
        self.get = get
        self.url = f"{url}/api/v1/query"
        self.query = query
        self.check = check
        self.changed_at = changed_at

    def sample(self) -> Sample:
        ages = self._ages()
        series, values = self._values(self.query)
        seen: Json = {"query": self.query, "series": evidence.bounded(series), "age_s": list(ages)}
        if not values:
            return Sample(verdict=Verdict.INCONCLUSIVE, why="the query found no series", seen=seen)
        if not all(math.isfinite(value) for value in values):
            return Sample(verdict=Verdict.INCONCLUSIVE, why="the query gave NaN or infinity", seen=seen)
        return judge(self.check.expect, {"result": list(values)}, seen)

    def _ages(self) -> tuple[float, ...]:
        """Seconds since the oldest fresh sample of each selector; raises NoData when one has none or is too old."""
        found = selectors(self.query)
        if not found:
            raise Broken("the query reads no series, so it measures nothing")
        if len(found) > MAX_SELECTORS:
            raise Broken(f"the query reads more than {MAX_SELECTORS} selectors")
        ages = []
        for selector in found:
            _, values = self._values(age_of(selector))
            if len(values) != 1:
                raise NoData(f"no fresh sample of {selector}")
            if not values[0] <= self.check.max_age_s:
                raise NoData(f"samples of {selector} are {values[0]:.0f} s old, more than {self.check.max_age_s} s")
            if self.changed_at and values[0] >= (datetime.now(UTC) - self.changed_at).total_seconds():
                raise OlderThanTheChange(f"samples of {selector} are from before the change")
            ages.append(round(values[0], 3))
        return tuple(ages)

    def _values(self, query: str) -> tuple[Json, tuple[float, ...]]:
        """The series as Prometheus gave them, and their numbers; raises NoData, Broken."""
        data = self._data(query)
        kind, result = data.get("resultType"), data.get("result")
        if kind not in {"vector", "scalar"} or not isinstance(result, list):
            raise Broken(f"the query gives {kind}, not a vector or a scalar")
        if len(result) > MAX_SERIES:
            raise Broken(f"the query gave more than {MAX_SERIES} series")
        try:
            pairs = [result] if kind == "scalar" else [one["value"] for one in result]
            return result, tuple(float(number) for _, number in pairs)
        except (TypeError, ValueError, KeyError):
            raise Broken("Prometheus answered in a form that is not documented") from None

    def _data(self, query: str) -> dict[str, Any]:
        """The `data` of a whole answer; raises NoData when Prometheus is not well, Broken for a wrong query."""
        timeout_s = self.check.timeout_s
        try:
            answer = self.get(self.url, timeout_s, {"query": query, "timeout": f"{timeout_s}s"})
            body = json.loads(answer.body)
        except web.NoAnswer as error:
            raise NoData(f"Prometheus did not answer: {error}") from None
        except web.TooMuch as error:
            raise Broken(f"Prometheus answered {error}") from None
        except (ValueError, RecursionError):
            raise NoData("Prometheus did not answer in JSON") from None
        if not isinstance(body, dict):
            raise NoData("Prometheus did not answer in JSON")
        if answer.status in {400, 422}:
            raise Broken(f"Prometheus refused the query: {evidence.text(str(body.get('error')), 300)}")
        data = body.get("data")
        if answer.status != 200 or body.get("status") != "success" or not isinstance(data, dict):
            raise NoData(f"Prometheus answered {answer.status}: {evidence.text(str(body.get('error')), 300)}")
        if body.get("warnings"):
            raise NoData(f"Prometheus warned: {evidence.brief(body['warnings'])}")
        return data
