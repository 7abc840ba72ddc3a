"""Gate kind `promql`: an instant query to the configured Prometheus. Called through `kinds()`.

No data never holds. Prometheus answers an instant query with samples up to five minutes old and stamps them with the
time of the query, so the age is asked for apart: `timestamp()` of every series that the query reads. This also finds
`... or vector(0)`, which would make a number out of nothing. What was before a change, and all the time since, is asked
in the same way at moments of the past, which a step can no longer change.
https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries (and /querying/basics/#staleness)
"""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
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
STEPS = 30
""" At so many moments at most is a time looked at. What happens in between, `max_over_time` and its like can see. """
BEFORE = re.compile(r"\bbefore\b")


def age_of(selector: str) -> str:
    """The query for the seconds since the oldest fresh sample of what a selector reads."""
    return f"max(time() - timestamp({selector}))"


class NoData(Exception):
    """There is nothing to judge; the message says why."""


class Unwell(NoData):
    """Prometheus itself cannot be asked: that says nothing about the data."""


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
            return _patiently(_Question(prometheus_url.rstrip("/"), query, check, facts, get))
        except (SignalboxError, Broken) as error:
            return Sample(verdict=Verdict.ERROR, why=str(error), seen={"query": check.query})
        except NoData as error:
            empty = not isinstance(error, Unwell)
            return Sample(verdict=Verdict.INCONCLUSIVE, why=str(error), seen={"query": check.query}, no_data=empty)

    return measure


def _patiently(question: _Question) -> Sample:
    """Ask again while the newest sample is older than the change, within the check's timeout; raises as `sample`."""
    deadline = time.monotonic() + question.check.timeout_s
    while True:
        try:
            return question.sample(datetime.now(UTC))
        except OlderThanTheChange:
            if time.monotonic() > deadline:
                raise
            time.sleep(SCRAPE_S)


def _usable(values: tuple[float, ...]) -> tuple[float, ...]:
    """The values, if there are some and each is a number; raises NoData."""
    if not values:
        raise NoData("the query found no series")
    if not all(math.isfinite(value) for value in values):
        raise NoData("the query gave NaN or infinity")
    return values


def _escape(value: str) -> str:
    """For within a quoted string of PromQL, where lint wants placeholders to stand."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'").replace("\n", "\\n")


class _Question:
    """One query with its freshness, asked of one Prometheus."""

    def __init__(self, url: str, query: str, check: PromqlCheck, facts: Facts, get: web.Get) -> None:
        self.get = get
        self.url = f"{url}/api/v1/query"
        self.query = query
        self.check = check
        self.facts = facts
        self.deadline = 0.0

    def sample(self, now: datetime) -> Sample:
        """Everything that one measurement asks, within the check's timeout; raises NoData, Broken."""
        self.deadline = time.monotonic() + self.check.timeout_s
        variables: dict[str, Json] = {}
        seen: dict[str, Json] = {"query": self.query}
        if BEFORE.search(self.check.expect):
            variables["before"] = seen["before"] = list(self._before())
        if self.check.for_s:
            return self._over(now, variables, seen)
        ages = self._ages()
        series, values = self._values(self.query)
        seen |= {"series": evidence.bounded(series), "age_s": list(ages)}
        return judge(self.check.expect, {"result": list(_usable(values)), **variables}, seen)

    def _before(self) -> tuple[float, ...]:
        """What the query gave when the change began; Prometheus still knows. Raises NoData, Broken."""
        at = self.facts.begun_at
        if at is None:
            raise NoData("nobody knows when the change began")
        self._ages(at, since_change=False)
        return _usable(self._values(self.query, at)[1])

    def _over(self, now: datetime, variables: dict[str, Json], seen: dict[str, Json]) -> Sample:
        """The condition at every step of the time up to now; the first that does not hold decides."""
        count = min(STEPS, self.check.for_s)
        moments = [now - timedelta(seconds=self.check.for_s * back / count) for back in range(count, -1, -1)]
        steps: list[Json] = []
        seen |= {"for_s": self.check.for_s, "steps": steps}
        for moment in moments:
            self._ages(moment)
            values = _usable(self._values(self.query, moment)[1])
            steps.append([round(moment.timestamp(), 3), list(values)])
            sample = judge(self.check.expect, {"result": list(values), **variables}, seen)
            if sample.verdict is not Verdict.HELD:
                ago = (now - moment).total_seconds()
                return replace(sample, why=f"{ago:.0f} s ago {sample.why}")
        return replace(sample, why=f"for {self.check.for_s} s {sample.why}")

    def _ages(self, at: datetime | None = None, *, since_change: bool = True) -> tuple[float, ...]:
        """Seconds since the oldest fresh sample of each selector; raises NoData when one has none or is too old.

        `at`: a moment of the past, instead of now. `since_change`: a sample from before the change is none.
        """
        found = selectors(self.query)
        if not found:
            raise Broken("the query reads no series, so it measures nothing")
        if len(found) > MAX_SELECTORS:
            raise Broken(f"the query reads more than {MAX_SELECTORS} selectors")
        return tuple(round(self._age(selector, at, since_change=since_change), 3) for selector in found)

    def _age(self, selector: str, at: datetime | None, *, since_change: bool) -> float:
        _, values = self._values(age_of(selector), at)
        when = "" if at is None else f" at {at:%H:%M:%S}"
        if len(values) != 1:
            raise NoData(f"no fresh sample of {selector}{when}")
        if not values[0] <= self.check.max_age_s:
            raise NoData(f"samples of {selector}{when} are {values[0]:.0f} s old, more than {self.check.max_age_s} s")
        changed_at = self.facts.changed_at if since_change else None
        if changed_at and values[0] >= ((at or datetime.now(UTC)) - changed_at).total_seconds():
            raise OlderThanTheChange(f"samples of {selector} are from before the change")
        return values[0]

    def _values(self, query: str, at: datetime | None = None) -> tuple[Json, tuple[float, ...]]:
        """The series as Prometheus gave them, and their numbers; raises NoData, Broken."""
        data = self._data(query, at)
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

    def _data(self, query: str, at: datetime | None) -> dict[str, Any]:
        """The `data` of a whole answer; raises NoData when Prometheus is not well, Broken for a wrong query."""
        timeout_s = round(self.deadline - time.monotonic(), 3)
        if timeout_s <= 0:
            raise Unwell(f"Prometheus did not answer within {self.check.timeout_s} s")
        try:
            moment = {} if at is None else {"time": f"{at.timestamp():.3f}"}
            answer = self.get(self.url, timeout_s, {"query": query, "timeout": f"{timeout_s * 1000:.0f}ms", **moment})
            body = json.loads(answer.body)
        except web.NoAnswer as error:
            raise Unwell(f"Prometheus did not answer: {error}") from None
        except web.TooMuch as error:
            raise Broken(f"Prometheus answered {error}") from None
        except (ValueError, RecursionError):
            raise Unwell("Prometheus did not answer in JSON") from None
        if not isinstance(body, dict):
            raise Unwell("Prometheus did not answer in JSON")
        if answer.status in {400, 422}:
            raise Broken(f"Prometheus refused the query: {evidence.text(str(body.get('error')), 300)}")
        data = body.get("data")
        if answer.status != 200 or body.get("status") != "success" or not isinstance(data, dict):
            raise Unwell(f"Prometheus answered {answer.status}: {evidence.text(str(body.get('error')), 300)}")
        if body.get("warnings"):
            raise Unwell(f"Prometheus warned: {evidence.brief(body['warnings'])}")
        return data
