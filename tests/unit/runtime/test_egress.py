"""The allow-list: exact host and port, nothing else; the record of it; the limit on bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.ports import Reach
from engine.runtime.egress import MAX_ROWS, Egress, UsedUp

REACHES = (
    Reach(host="db.test", port=5432, address="10.0.0.9", address_port=15432),
    Reach(host="db.test", port=22, address="10.0.0.9", address_port=22),
    Reach(host="10.1.2.3", port=443, address="10.1.2.3", address_port=443),
)


@pytest.mark.parametrize(("host", "port"), [("db.test", 5432), ("DB.test", 22), ("db.test.", 22), ("10.1.2.3", 443)])
def test_a_declared_host_and_port_is_allowed(host: str, port: int) -> None:
    """Names know neither case nor a final dot."""
    entry, reach = Egress(REACHES).ask(host, port)
    assert reach in REACHES
    assert entry.allowed


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("db.test", 5433),
        ("db.test", 15432),
        ("10.0.0.9", 15432),
        ("10.0.0.9", 22),
        ("db.test..", 22),
        ("x.db.test", 22),
        ("db.test\0", 22),
        ("db.test ", 22),
        ("010.1.2.3", 443),
        ("::ffff:10.1.2.3", 443),
        ("", 0),
    ],
)
def test_everything_else_is_refused(host: str, port: int) -> None:
    """Also the address behind a declared name, and other spellings of a declared address."""
    entry, reach = Egress(REACHES).ask(host, port)
    assert reach is None
    assert (entry.allowed, entry.error) == (False, "not declared for this step")


@given(st.text(max_size=300), st.integers(0, 65535))
def test_what_is_recorded_of_a_host_is_printable(host: str, port: int) -> None:
    """The guest chooses this text, and people read it."""
    egress = Egress(())
    egress.ask(host, port)
    (row,) = egress.records()
    assert row.host == "(malformed)" or (row.host.isascii() and row.host.isprintable() and len(row.host) <= 255)


def test_each_name_has_one_loopback_address_and_a_literal_is_itself() -> None:
    """What the guest listens on."""
    assert Egress(REACHES).listeners() == [
        {"host": "db.test", "port": 5432, "address": "127.77.0.1"},
        {"host": "db.test", "port": 22, "address": "127.77.0.1"},
        {"host": "10.1.2.3", "port": 443, "address": "10.1.2.3"},
    ]


def test_a_flood_of_allowed_connections_is_counted_with_its_bytes() -> None:
    """The rows end at MAX_ROWS; no byte is lost from the record."""
    egress = Egress(REACHES)
    for _ in range(MAX_ROWS + 20):
        entry, _reach = egress.ask("db.test", 22)
        egress.spend(entry, up=2, down=3)
        entry.end()
    rows = egress.records()
    assert len(rows) == MAX_ROWS + 1
    assert (rows[-1].host, rows[-1].allowed, rows[-1].count) == ("(more)", True, 20)
    assert (rows[-1].bytes_up, rows[-1].bytes_down) == (40, 60)


def test_one_that_was_declared_and_leads_where_it_may_not_is_a_refused_one() -> None:
    """Also when it was not listed singly: the counts stay right."""
    egress = Egress(REACHES)
    asked = [egress.ask("db.test", 22)[0] for _ in range(MAX_ROWS + 2)]
    for entry in (asked[0], asked[-1]):
        egress.refuse(entry, "the name leads to 10.0.0.1, a private address")
    rows = egress.records()
    (refused,) = [row for row in rows if not row.allowed]
    assert (refused.host, refused.count, refused.error) == (
        "db.test",
        2,
        "the name leads to 10.0.0.1, a private address",
    )
    assert sum(row.count for row in rows if row.allowed) == MAX_ROWS


def test_the_limit_counts_both_ways_and_all_connections() -> None:
    """What would exceed it does not cross, and nothing is allowed any more."""
    egress = Egress(REACHES, limit=10)
    first, _ = egress.ask("db.test", 22)
    second, _ = egress.ask("db.test", 5432)
    egress.spend(first, up=6)
    egress.spend(second, down=4)
    before = egress.used_up
    with pytest.raises(UsedUp):
        egress.spend(first, down=1)
    assert (before, egress.used_up) == (False, True)
    refused, reach = egress.ask("db.test", 22)
    assert (reach, refused.allowed) == (None, False)
    rows = {(row.port, row.allowed): row for row in egress.records()}
    assert (rows[22, True].bytes_up, rows[22, True].bytes_down) == (6, 0)
    assert "limit is met" in rows[22, True].error
    assert rows[22, False].error == rows[22, True].error
    assert rows[5432, True].error == ""
