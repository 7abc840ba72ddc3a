"""What an agent may ask Prometheus: of the metrics that it is granted, and of no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from engine.domain.errors import BadInput, Refused, SignalboxError, Unavailable
from engine.gates import asking, web

ALLOWED = ("checkout_*", "up")


class Answering:
    """A Prometheus that gives one answer."""

    def __init__(self, body: Any, status: int = 200) -> None:
        self.body, self.status = body, status
        self.asked: list[tuple[str, float, Mapping[str, str] | None]] = []

    def __call__(
        self, url: str, timeout_s: float, params: Mapping[str, str] | None = None, ca: str | None = None, /
    ) -> web.Answer:
        self.asked.append((url, timeout_s, params))
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return web.Answer(status=self.status, body=body, ms=1)


def vector(*series: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": list(series)}}


def test_one_instant_query_is_asked_within_its_time() -> None:
    get = Answering(vector({"metric": {"env": "a"}, "value": [1, "2"]}))
    answer = asking.ask("http://p:9090/", "sum by (env) (rate(checkout_orders[5m]))", ALLOWED, get)
    assert answer == {"type": "vector", "series": [{"metric": {"env": "a"}, "value": [1, "2"]}]}
    params = {"query": "sum by (env) (rate(checkout_orders[5m]))", "timeout": "10s"}
    assert get.asked == [("http://p:9090/api/v1/query", 10.0, params)]


@pytest.mark.parametrize(
    "query",
    [
        "up",
        'up{job="a}b"} > 0.5',
        "checkout_orders / on(env) group_left(team) checkout_",
        "max_over_time(checkout_a:b[1h:5m] offset 5m)",
        'label_replace(up, "dst", "$1", "src", "(.*)") or vector(0)',
        "histogram_quantile(0.9, sum(rate(checkout_s_bucket[5m])) by (le))",
    ],
)
def test_queries_of_what_is_granted_are_asked(query: str) -> None:
    asking.check(query, ALLOWED)


@pytest.mark.parametrize(
    "query",
    [
        "secret",
        "upper",
        "up + secret",
        "up or (secret)",
        "sum by (env) (secret)",
        "sum(secret) by (env)",
        '{job="a"}',
        '{"secret"}',
        '{__name__="up"}',
        'up{__name__=~".+"}',
        "checkout_a or {__NAME__='x'}",
        "count({job=~'.+'})",
        "info(up)",
        "INFO (up)",
        "up # and secret",
        "up\n# x\n+ secret",
        "secret[5m]",
        "rate(secret{a='}'}[5m])",
        "checkout",
        "un\u0440",
        "",
        "vector(1)",
        "time()",
        "up" + " + up" * 1000,
        " + ".join(f"checkout_{number}" for number in range(9)),
    ],
)
def test_every_other_is_refused_and_never_asked(query: str) -> None:
    get = Answering(vector())
    with pytest.raises((BadInput, Refused)):
        asking.ask("http://p:9090", query, ALLOWED, get)
    assert get.asked == []


def test_a_refusal_says_what_is_allowed() -> None:
    with pytest.raises(Refused, match="the metric secret is not allowed; you may read checkout_\\*; up"):
        asking.check("secret", ALLOWED)
    with pytest.raises(Refused, match="you may read none"):
        asking.check("up", ())


@pytest.mark.parametrize(
    ("body", "status", "error", "why"),
    [
        (b"<html>", 200, Unavailable, "not answer in JSON"),
        ([], 200, Unavailable, "not answer in JSON"),
        (b"[" * 100_000, 200, Unavailable, "not answer in JSON"),
        ({"status": "error", "error": "no\0such function"}, 400, BadInput, "refused the query: no\ufffdsuch"),
        ({"status": "error", "error": "down"}, 503, Unavailable, "503: down"),
        ({"status": "success", "data": []}, 200, Unavailable, "answered 200"),
        ({"status": "success", "data": {"resultType": "vector", "result": {}}}, 200, Unavailable, "not documented"),
        ({"status": "success", "data": {"resultType": "odd", "result": []}}, 200, Unavailable, "not documented"),
    ],
)
def test_an_answer_that_is_none_says_what_it_was(body: Any, status: int, error: type[SignalboxError], why: str) -> None:
    with pytest.raises(error, match=why):
        asking.ask("http://p:9090", "up", ALLOWED, Answering(body, status))


def test_no_prometheus_and_one_that_does_not_answer_are_told_apart() -> None:
    with pytest.raises(Unavailable, match="no Prometheus is configured"):
        asking.ask("", "up", ALLOWED)
    with pytest.raises(Unavailable, match="did not answer"):
        asking.ask("http://127.0.0.1:1", "up", ALLOWED)


def test_many_series_are_counted_not_given() -> None:
    answer = asking.ask("http://p:9090", "up", ALLOWED, Answering(vector(*({"value": [1, "1"]} for _ in range(70)))))
    assert isinstance(answer, dict)
    assert (len(list(answer["series"] or ())), answer["left_out"]) == (50, 20)  # type: ignore[arg-type]
    scalar = {"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}
    assert asking.ask("http://p:9090", "scalar(up)", ALLOWED, Answering(scalar)) == {
        "type": "scalar",
        "value": [1, "2"],
    }
