"""An agent's questions to a real Prometheus: what it is granted it gets, and what is let through reads nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from engine.domain.errors import BadInput, Refused, SignalboxError
from engine.gates import asking
from tests.integration.gates.conftest import Prometheus


@pytest.fixture(autouse=True)
def scraped(prometheus: Prometheus) -> None:
    prometheus.show('secret 424242\ncheckout_orders{shop="a"} 7\n')
    prometheus.wait("secret")


def test_a_question_is_answered_and_another_refused(prometheus: Prometheus) -> None:
    answer: Any = asking.ask(prometheus.url, "sum by (shop) (checkout_orders) * 2", ("checkout_*",))
    (series,) = answer["series"]
    assert (series["metric"], series["value"][1]) == ({"shop": "a"}, "14")
    with pytest.raises(Refused):
        asking.ask(prometheus.url, "secret", ("checkout_*",))
    with pytest.raises(BadInput, match="Prometheus refused the query"):
        asking.ask(prometheus.url, "checkout_orders +", ("checkout_*",))


# fmt: off
PIECES = st.sampled_from((
    "secret", "up", "granted_a", "{", "}", "(", ")", "[5m]", "[5m:1m]", "[", "]", ",", '"', "'", "`", "#", " ", "\n",
    "\\", "by", "on", "sum", "rate", "offset 1s", "or", "and", "unless", "info", "__name__", "=", "=~", "!=", '".+"',
    "env", "1", "5m", "@ end()", ":", "+", "-", "*", "> bool", "without", "ignoring", "group_left", "'}'", '"{"',
    "count", "topk", "vector", "absent", "atan2", "nan", "inf", "by (env)", "on (env)", "{env=~'.+'}", "or secret",
))
# fmt: on
ATOMS = st.sampled_from(
    ("granted_a", "secret", "1", "vector(1)", "{env!=''}", 'granted_a{x="}{"}', "by", "offset", "bool", "up[5m]")
)
EXPRESSIONS: st.SearchStrategy[str] = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(("sum", "count", "-", "absent", "timestamp", "scalar")), inner).map(
            lambda parts: f"{parts[0]}({parts[1]})"
        ),
        st.tuples(
            inner, st.sampled_from(("+", "or", "unless on (env)", "* ignoring(x) group_left (secret)")), inner
        ).map(" ".join),
        inner.map("sum by (secret) ({})".format),
        inner.map("sum({}) without (x)".format),
        inner.map("({})[5m:1m]".format),
        inner.map("{} offset 1s".format),
    ),
    max_leaves=5,
)


@given(st.lists(PIECES, max_size=10).map("".join) | st.lists(PIECES, max_size=10).map(" ".join) | EXPRESSIONS)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
def test_what_is_let_through_reads_no_sample_of_what_is_not_granted(prometheus: Prometheus, query: str) -> None:
    """Of what is granted there is nothing, so one sample read would be of another metric."""
    try:
        asking.check(query, ("granted_*",))
    except SignalboxError:
        assume(False)
    answer = requests.get(f"{prometheus.url}/api/v1/query", {"query": query, "stats": "all"}, timeout=10).json()
    if answer["status"] == "success":
        assert answer["data"]["stats"]["samples"]["totalQueryableSamples"] == 0, query


def test_the_measure_of_the_test_above_sees_a_sample_that_is_read(prometheus: Prometheus) -> None:
    answer = requests.get(f"{prometheus.url}/api/v1/query", {"query": "secret", "stats": "all"}, timeout=10).json()
    assert answer["data"]["stats"]["samples"]["totalQueryableSamples"] == 1
