"""A question reaches people whatever Slack refuses and whatever our own drawing trips over."""

from __future__ import annotations

import pytest

from bot.views import messages
from tests.doubles import incidents as told
from tests.doubles.slack import FakeChannel, Fault
from tests.unit.bot.town import APPROVAL, Town


@pytest.fixture
def town() -> Town:
    town = Town(told.incident())
    town.slack.add(FakeChannel(id="C0FEED001", name="signalbox"))
    return town


@pytest.mark.parametrize("code", ["restricted_action", "user_is_restricted", "not_allowed"])
async def test_a_workspace_that_lets_us_make_no_channels_is_asked_in_the_feed(town: Town, code: str) -> None:
    town.slack.fail("conversations.create", *[Fault(code)] * 20)

    assert (await town.insist(APPROVAL)).state == "sent"


@pytest.mark.parametrize("code", ["restricted_action", "restricted_action_thread_only_channel"])
async def test_a_post_that_is_refused_in_its_channel_goes_to_the_feed(town: Town, code: str) -> None:
    town.slack.fail("chat.postMessage", Fault(code))

    assert (await town.insist(APPROVAL)).state == "sent"


@pytest.mark.parametrize("error", [KeyError("Change"), ValueError("Change"), ZeroDivisionError()])
async def test_a_message_that_cannot_be_drawn_is_said_in_one_bare_line(
    town: Town, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def trip(*_: object) -> None:
        raise error

    monkeypatch.setattr(messages, "approval", trip)

    assert (await town.send(APPROVAL)).state == "sent"
