"""Replays the kind `promql`: the vector that Prometheus gave, and how old the samples were."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
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

    `trouble`: Prometheus does not answer, says that it is unwell, answers nonsense, or warns.
    """

    vector: Annotated[list[float], Field(max_length=200)] = []  # noqa: RUF012 - a field of pydantic, copied
    age: float | list[float] = 1.0
    trouble: Literal["down", "unwell", "nonsense", "warning"] | None = None


class Promql(Kind[PromqlCheck, PromqlAnswer]):
    """Prometheus is told: an instant query is answered by the vector, the query for an age by the age."""

    answer = PromqlAnswer

    def measure(self, check: PromqlCheck, facts: Facts, answer: PromqlAnswer) -> Sample:
        """See `Kind`."""
        asked: dict[str, int] = {}

        def get(_url: str, _timeout_s: float, params: Mapping[str, str] | None = None) -> web.Answer:
            return _say(answer, (params or {})["query"], asked)

        return promql.build(PROMETHEUS, get)(check, facts, no_probe)

    def never(self, check: PromqlCheck, good: PromqlAnswer) -> Iterable[tuple[str, PromqlAnswer]]:
        """No data, in every form that it takes."""
        yield "no series", good.model_copy(update={"vector": []})
        yield "NaN", good.model_copy(update={"vector": [math.nan for _ in good.vector]})
        yield "infinity", good.model_copy(update={"vector": [math.inf for _ in good.vector]})
        yield "samples a second too old", good.model_copy(update={"age": check.max_age_s + 1.0})
        yield "no fresh sample", good.model_copy(update={"age": []})
        for trouble in ("down", "unwell", "nonsense", "warning"):
            yield f"Prometheus: {trouble}", good.model_copy(update={"trouble": trouble})

    def variables(self, check: PromqlCheck, good: PromqlAnswer) -> Mapping[str, Json]:  # noqa: ARG002 - as the port
        """See `Kind`."""
        return {"result": list(good.vector)}

    def broken(self, check: PromqlCheck) -> Iterator[tuple[str, PromqlCheck]]:
        """Older samples will do."""
        for max_age_s in (check.max_age_s + 1, check.max_age_s * 2):
            yield f"max_age: {max_age_s}s", replace(check, max_age_s=max_age_s)


def _say(answer: PromqlAnswer, query: str, asked: dict[str, int]) -> web.Answer:
    """`asked`: the queries for an age so far, each with its number; the kind asks in the order of the selectors."""
    match answer.trouble:
        case "down":
            raise web.NoAnswer("connection refused")
        case "unwell":
            return _body({"status": "error", "error": "query timed out"}, 503)
        case "nonsense":
            return web.Answer(status=200, body=b"<html>", ms=1)
    values = answer.vector
    if query.startswith(AGE_BEGINS):
        at = asked.setdefault(query, len(asked))
        values = answer.age[at : at + 1] if isinstance(answer.age, list) else [answer.age]
    body = {"status": "success", "data": {"resultType": "vector", "result": _series(values)}}
    return _body(body | ({"warnings": ["incomplete"]} if answer.trouble else {}), 200)


def _series(values: Iterable[float]) -> list[object]:
    return [{"metric": {"series": str(at)}, "value": [NOW_S, str(value)]} for at, value in enumerate(values)]


def _body(value: object, status: int) -> web.Answer:
    return web.Answer(status=status, body=json.dumps(value).encode(), ms=1)
