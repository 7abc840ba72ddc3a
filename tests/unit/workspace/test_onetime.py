"""Trigger ids and response URLs run out."""

import pytest

from demo.workspace.errors import ApiError
from demo.workspace.onetime import OneTime
from tests.unit.workspace.test_limits import Clock


def test_a_trigger_id_is_exchanged_once_within_three_seconds() -> None:
    clock = Clock()
    once = OneTime(clock)
    first, late = once.trigger("U1", "V1"), once.trigger("U1")
    clock.now += 2.9
    assert once.exchange(first).user == "U1"
    with pytest.raises(ApiError, match="exchanged_trigger_id"):
        once.exchange(first)
    clock.now += 0.2
    with pytest.raises(ApiError, match="expired_trigger_id"):
        once.exchange(late)
    with pytest.raises(ApiError, match="invalid_trigger_id"):
        once.exchange("1.2.3")


def test_a_response_url_takes_five_messages() -> None:
    once = OneTime(Clock())
    key = once.response_key("U1", "C1", "1.2")
    assert [once.respond(key).ts for _ in range(5)] == ["1.2"] * 5
    with pytest.raises(ApiError, match="used_url"):
        once.respond(key)


def test_a_response_url_ends_after_thirty_minutes() -> None:
    clock = Clock()
    once = OneTime(clock)
    key = once.response_key("U1", "C1")
    clock.now += 30 * 60 + 1
    with pytest.raises(ApiError, match="expired_url"):
        once.respond(key)
