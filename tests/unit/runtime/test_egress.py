"""The allow-list: exact host and port, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.ports import Reach
from engine.runtime.egress import Egress

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
