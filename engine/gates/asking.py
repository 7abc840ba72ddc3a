"""A question of an agent's to Prometheus: one instant query, of the metrics that its step is granted and no other.

Given to `engine.agents` by `engine.wiring`; a gate measures with `promql`. The reader of selectors may find too much,
and then a question is refused. What it may overlook is refused before: another name for a metric, what reads one that
the query does not name, and a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from engine.domain.errors import BadInput, Refused, Unavailable
from engine.domain.gate import Json
from engine.gates import evidence, web
from engine.gates.selectors import selectors

MAX_QUERY = 2000
MAX_SELECTORS = 8
MAX_SERIES = 50
TIMEOUT_S = 10.0
PLAIN = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?", re.DOTALL)
UNREADABLE = re.compile(r"__name__|#|\binfo\s*\(", re.IGNORECASE)


def ask(prometheus_url: str, query: str, allowed_names: Sequence[str], get: web.Get = web.get) -> Json:
    """The result type, and at most MAX_SERIES series of what Prometheus gives now. `get`: who asks.

    Raises BadInput (no such query), Refused (a metric that is not allowed), Unavailable.
    """
    if not prometheus_url:
        raise Unavailable("no Prometheus is configured", "set SIGNALBOX_PROMETHEUS_URL")
    check(query, allowed_names)
    data = _data(prometheus_url.rstrip("/"), query, get)
    kind, result = data.get("resultType"), data.get("result")
    if kind in {"scalar", "string"}:
        return {"type": kind, "value": evidence.bounded(result)}
    if kind not in {"vector", "matrix"} or not isinstance(result, list):
        raise Unavailable("Prometheus answered in a form that is not documented")
    answer: dict[str, Json] = {"type": kind, "series": result[:MAX_SERIES]}
    if len(result) > MAX_SERIES:
        answer["left_out"] = len(result) - MAX_SERIES
    return answer


def check(query: str, allowed_names: Sequence[str]) -> None:
    """Raise BadInput or Refused unless all that the query reads is allowed; `*` at a name's end: any rest."""
    allowed = f"you may read {'; '.join(allowed_names) or 'none'}"
    if len(query) > MAX_QUERY or not (query.isascii() and query.isprintable()):
        raise BadInput(f"a query is one line of at most {MAX_QUERY} plain characters", allowed)
    if found := UNREADABLE.search(query):
        raise Refused(f"a query may not hold `{found.group()}`: name each metric; {allowed}")
    found_selectors = selectors(query)
    if not found_selectors:
        raise BadInput(f"the query reads no metric; {allowed}")
    if len(found_selectors) > MAX_SELECTORS:
        raise BadInput(f"the query reads more than {MAX_SELECTORS} selectors", "ask in parts")
    for selector in found_selectors:
        named = PLAIN.fullmatch(selector)
        if named is None:
            raise Refused(f"`{evidence.text(selector, 100)}` does not begin with a metric's name; {allowed}")
        if not any(_is(named.group(1), pattern) for pattern in allowed_names):
            raise Refused(f"the metric {evidence.text(named.group(1), 100)} is not allowed; {allowed}")


def _is(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _data(url: str, query: str, get: web.Get) -> dict[str, Any]:
    """The `data` of a whole answer; raises BadInput for a wrong query, Unavailable when Prometheus is not well."""
    try:
        answer = get(f"{url}/api/v1/query", TIMEOUT_S, {"query": query, "timeout": f"{TIMEOUT_S:.0f}s"})
        body = json.loads(answer.body)
    except web.NoAnswer as error:
        raise Unavailable(f"Prometheus did not answer: {error}") from None
    except web.TooMuch as error:
        raise BadInput(f"Prometheus answered {error}", "ask for less: a sum, topk, more labels") from None
    except (ValueError, RecursionError):
        raise Unavailable("Prometheus did not answer in JSON") from None
    if not isinstance(body, dict):
        raise Unavailable("Prometheus did not answer in JSON")
    if answer.status in {400, 422}:
        raise BadInput(f"Prometheus refused the query: {evidence.text(str(body.get('error')), 300)}")
    data = body.get("data")
    if answer.status != 200 or body.get("status") != "success" or not isinstance(data, dict):
        raise Unavailable(f"Prometheus answered {answer.status}: {evidence.text(str(body.get('error')), 300)}")
    return data
