"""Replays the kind `promql`: the vector that Prometheus gave, and how old the samples were."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from engine.domain.gate import Facts, Json, PromqlCheck, Sample
from engine.gates import promql, web
from engine.proving.kinds.port import Answer, Kind, no_probe

PROMETHEUS = "http://prometheus.invalid"
AGE_BEGINS = promql.age_of("\0").split("\0", maxsplit=1)[0]
NOW_S = 1.0
""" What Prometheus stamps an instant query with; the kind does not read it. """


class PromqlAnswer(Answer):
    """The values in their order, and the age in seconds of what each selector of the query reads (one for all).

    `before`: the values when the change began, for a condition that compares. `earlier`: the values at the beginning of
    the time that `for` looks over, where they were others. `trouble`: Prometheus does not answer, says that it is
    unwell, answers nonsense, or warns.
    """

    vector: Annotated[list[float], Field(max_length=200)] = []  # noqa: RUF012 - a field of pydantic, copied
    age: float | list[float] = 1.0
    before: Annotated[list[float], Field(max_length=200)] = []  # noqa: RUF012 - as above
    earlier: Annotated[list[float] | None, Field(max_length=200)] = None
    trouble: Literal["down", "unwell", "nonsense", "warning"] | None = None


class Promql(Kind[PromqlCheck, PromqlAnswer]):
    """Prometheus is told: an instant query is answered by the vector, the query for an age by the age."""

    answer = PromqlAnswer

    def measure(self, check: PromqlCheck, facts: Facts, answer: PromqlAnswer) -> Sample:
        """See `Kind`."""
        begun_at = datetime.now(UTC) - timedelta(days=1)
        told = _Told(answer, f"{begun_at.timestamp():.3f}")

        def get(
            _url: str, _timeout_s: float, params: Mapping[str, str] | None = None, _ca: str | None = None
        ) -> web.Answer:
            return told.say((params or {})["query"], (params or {}).get("time"))

        return promql.build(PROMETHEUS, get)(check, replace(facts, begun_at=begun_at), no_probe)

    def never(self, check: PromqlCheck, good: PromqlAnswer) -> Iterable[tuple[str, PromqlAnswer]]:
        """No data, in every form that it takes."""
        yield "no series", good.model_copy(update={"vector": []})
        yield "NaN", good.model_copy(update={"vector": [math.nan for _ in good.vector]})
        yield "infinity", good.model_copy(update={"vector": [math.inf for _ in good.vector]})
        yield "samples a second too old", good.model_copy(update={"age": check.max_age_s + 1.0})
        yield "no fresh sample", good.model_copy(update={"age": []})
        if promql.BEFORE.search(check.expect):
            yield "nothing from before", good.model_copy(update={"before": []})
        if check.for_s:
            yield "no series at first", good.model_copy(update={"earlier": []})
        for trouble in ("down", "unwell", "nonsense", "warning"):
            yield f"Prometheus: {trouble}", good.model_copy(update={"trouble": trouble})

    def variables(self, check: PromqlCheck, good: PromqlAnswer) -> Mapping[str, Json]:
        """See `Kind`."""
        before: dict[str, Json] = {"before": list(good.before)} if promql.BEFORE.search(check.expect) else {}
        return {"result": list(good.vector), **before}

    def broken(self, check: PromqlCheck) -> Iterator[tuple[str, PromqlCheck]]:
        """Older samples will do, or the last moment of a longer time."""
        if check.for_s:
            yield "for: left out", replace(check, for_s=0)
        for max_age_s in (check.max_age_s + 1, check.max_age_s * 2):
            yield f"max_age: {max_age_s}s", replace(check, max_age_s=max_age_s)


@dataclass(slots=True)
class _Told:
    """A Prometheus that was told its answers.

    `ages`: the queries for an age so far, each with its number; the kind asks in the order of the selectors.
    `first`: the moment at which a longer time begins.
    """

    answer: PromqlAnswer
    begun_at: str
    first: str | None = None
    ages: dict[str, int] = field(default_factory=dict)

    def say(self, query: str, at: str | None) -> web.Answer:
        """The answer to a query, at a moment of the past or now."""
        match self.answer.trouble:
            case "down":
                raise web.NoAnswer("connection refused")
            case "unwell":
                return _body({"status": "error", "error": "query timed out"}, 503)
            case "nonsense":
                return web.Answer(status=200, body=b"<html>", ms=1)
        series = _series(self._age(query) if query.startswith(AGE_BEGINS) else self._values(at))
        body = {"status": "success", "data": {"resultType": "vector", "result": series}}
        return _body(body | ({"warnings": ["incomplete"]} if self.answer.trouble else {}), 200)

    def _age(self, query: str) -> list[float]:
        at = self.ages.setdefault(query, len(self.ages))
        return self.answer.age[at : at + 1] if isinstance(self.answer.age, list) else [self.answer.age]

    def _values(self, at: str | None) -> list[float]:
        if at == self.begun_at:
            return self.answer.before
        if at is not None and self.first is None:
            self.first = at
        earlier = self.answer.earlier
        return earlier if at is not None and at == self.first and earlier is not None else self.answer.vector


def _series(values: Iterable[float]) -> list[object]:
    return [{"metric": {"series": str(at)}, "value": [NOW_S, str(value)]} for at, value in enumerate(values)]


def _body(value: object, status: int) -> web.Answer:
    return web.Answer(status=status, body=json.dumps(value).encode(), ms=1)
