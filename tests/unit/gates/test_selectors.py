"""Which series a query reads."""

from __future__ import annotations

import pytest

from engine.gates.selectors import selectors


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("up", ("up",)),
        ('up{job="a b"} > 0.5', ('up{job="a b"}',)),
        ('{__name__="up"}', ('{__name__="up"}',)),
        ("sum by (env, job) (rate(http_errors_total[5m]))", ("http_errors_total",)),
        ("sum(rate(a[5m])) without (x) / sum(rate(b[5m:1m]))", ("a", "b")),
        ("a / on(env) group_left(team) b", ("a", "b")),
        ("a offset 5m and b unless c or d", ("a", "b", "c", "d")),
        ("up or vector(0)", ("up",)),
        ("vector(1)", ()),
        ("1 + 0x1f > bool 2e3", ()),
        ("topk by (x) (3, a:b:c)", ("a:b:c",)),
        ("up # and down", ("up",)),
        ('label_replace(up, "dst", "$1", "src", "(.*)")', ("up",)),
        ('up{path="}{"}', ('up{path="}{"}',)),
        ("a + a", ("a",)),
        ("histogram_quantile(0.9, sum by (le) (rate(x_bucket[1h30m])))", ("x_bucket",)),
        ("a @ end() + b @ 1609746000", ("a", "b")),
        ("-Inf < a", ("a",)),
    ],
)
def test_every_selector_is_found(query: str, found: tuple[str, ...]) -> None:
    assert selectors(query) == found
