"""What becomes of a row that Slack refused, how fast we are, and the loop that outlives it all."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import aiohttp
import pytest

from bot.slack.pacing import Pace
from bot.slack.sender import MAX_TRIES
from bot.views import messages, render
from bot.views.limits import TooMuch
from engine.domain.errors import Unavailable
from engine.domain.incident import Topic
from tests.doubles import incidents as told
from tests.doubles.service import Outcome, row
from tests.doubles.slack import Fault
from tests.unit.bot.town import APPROVAL, CARD, GATE, Town


@pytest.fixture
def town() -> Town:
    return Town(told.incident())


# -- what Slack refuses


async def test_being_too_fast_waits_as_long_as_slack_says_and_uses_up_no_try(town: Town) -> None:
    town.slack.fail("chat.postMessage", Fault("ratelimited", status=429, headers={"Retry-After": "17"}))
    outcome = await town.send(APPROVAL)

    assert (outcome.state, outcome.delay_s, outcome.counted, outcome.ambiguous) == ("later", 17, False, False)


async def test_after_429_the_same_call_is_not_made_before_its_time() -> None:
    town = Town(told.incident(), pace=Pace())
    await town.send(CARD)
    town.slack.fail("chat.postMessage", Fault("ratelimited", status=429, headers={"Retry-After": "17"}))
    await town.send(APPROVAL)
    calls = len(town.slack.asked("chat.postMessage"))
    outcome = await town.send(GATE)

    assert len(town.slack.asked("chat.postMessage")) == calls
    assert (outcome.state, outcome.counted) == ("later", False)


@pytest.mark.parametrize("code", ["invalid_auth", "token_revoked", "missing_scope", "account_inactive"])
async def test_a_bad_token_uses_up_no_try_and_makes_us_unwell(town: Town, code: str) -> None:
    town.slack.fail("conversations.create", Fault(code))
    outcome = await town.send(APPROVAL)

    assert (outcome.state, outcome.counted) == ("later", False)
    assert code in town.sender.unwell()["slack"]


async def test_we_are_well_again_after_the_first_success(town: Town) -> None:
    town.slack.fail("conversations.create", Fault("invalid_auth"))
    await town.send(APPROVAL)
    await town.send(APPROVAL)

    assert town.sender.unwell() == {}


async def test_an_unreachable_slack_uses_up_no_try_however_long_it_lasts(town: Town) -> None:
    """Slack may be down for hours; nothing may be lost."""
    refused = aiohttp.ClientConnectorError(
        aiohttp.client_reqrep.ConnectionKey("slack.com", 443, True, True, None, None, None), OSError("refused")
    )
    town.slack.fail("conversations.create", *[Fault(refused) for _ in range(30)])
    outcomes = [await town.send(APPROVAL) for _ in range(30)]

    assert {(o.state, o.counted, o.ambiguous) for o in outcomes} == {("later", False, False)}
    assert max(o.delay_s for o in outcomes) <= 60 * 1.3
    assert "does not answer" in town.sender.unwell()["slack"]


@pytest.mark.parametrize("code", ["invalid_blocks", "msg_blocks_too_long", "msg_too_long", "metadata_too_large"])
async def test_blocks_that_slack_refuses_become_plain_text_because_people_must_be_reached(
    town: Town, code: str
) -> None:
    town.slack.fail("chat.postMessage", Fault(code))

    assert (await town.send(APPROVAL)).state == "sent"
    [message] = town.channel().messages
    assert "blocks" not in message
    assert "Approval needed" in message["text"]


async def test_an_edit_whose_blocks_slack_refuses_loses_its_old_buttons_too(town: Town) -> None:
    await town.send(APPROVAL)
    town.slack.fail("chat.update", Fault("invalid_blocks"))

    assert (await town.send(APPROVAL)).state == "sent"
    assert town.channel().messages[0]["blocks"] == []


async def test_a_message_that_our_own_check_refuses_becomes_one_bare_line(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> render.Message:
        raise TooMuch("51 blocks")

    monkeypatch.setattr(messages, "approval", refuse)

    assert (await town.send(APPROVAL)).state == "sent"
    assert "https://box.test/incidents/12" in town.shown()[0]


async def test_an_archived_channel_sends_the_question_to_the_feed(town: Town) -> None:
    await town.send(CARD)
    town.channel().archived = True

    assert (await town.send(APPROVAL)).state == "sent"
    [asked] = town.slack.named("signalbox").messages
    assert "Approval needed" in asked["text"]
    assert town.service.refs["approval:approval-1"].channel == town.slack.named("signalbox").id


async def test_an_ambiguous_question_in_a_deleted_channel_still_reaches_the_feed(town: Town) -> None:
    await town.send(CARD)
    town.slack.channels.remove(town.channel())

    assert (await town.send(dataclasses.replace(APPROVAL, ambiguous=True))).state == "sent"
    assert town.slack.named("signalbox").messages


async def test_a_bot_that_was_removed_joins_again(town: Town) -> None:
    await town.send(CARD)
    town.slack.fail("chat.postMessage", Fault("not_in_channel"))

    assert (await town.send(APPROVAL)).state == "sent"
    assert town.slack.asked("conversations.join")
    assert "Approval needed" in town.shown()[-1]


async def test_a_stumbling_slack_is_tried_again_at_growing_distances(town: Town) -> None:
    town.slack.fail("chat.postMessage", *[Fault("internal_error", status=503) for _ in range(3)])
    early = await town.send(APPROVAL)
    late = await town.send(dataclasses.replace(APPROVAL, attempts=5))

    assert (early.state, early.ambiguous, early.counted) == ("later", True, True)
    assert early.delay_s < late.delay_s


async def test_after_the_last_try_the_row_is_given_up_and_stays_to_be_seen(town: Town) -> None:
    town.slack.fail("chat.postMessage", Fault("internal_error", status=503))
    outcome = await town.send(dataclasses.replace(APPROVAL, attempts=MAX_TRIES - 1))

    assert outcome.state == "dead"
    assert town.sender.counts["dead"] == 1


async def test_an_error_that_never_changes_is_not_tried_again(town: Town) -> None:
    town.slack.fail("chat.postMessage", *[Fault("restricted_action")] * 2)

    assert await town.send(APPROVAL) == Outcome("dead", "restricted_action")


async def test_a_fault_of_ours_costs_the_row_a_try_and_not_the_sender(town: Town) -> None:
    town.service.fails["incident"] = ZeroDivisionError()
    outcome = await town.send(APPROVAL)

    assert (outcome.state, outcome.counted) == ("later", True)


async def test_a_database_that_is_away_uses_up_no_try(town: Town) -> None:
    town.service.fails["incident"] = Unavailable("the database does not answer")

    assert (await town.send(APPROVAL)).counted is False


# -- pacing


async def test_a_storm_of_channels_goes_no_faster_than_slack_allows() -> None:
    """Tier 2 is 20 a minute; whoever comes too early is given back unsent and uncounted."""
    views = [dataclasses.replace(told.incident(), id=f"inc-{n}", number=n) for n in range(100, 140)]
    town = Town(*views, pace=Pace())
    outcomes = [await town.send(row(Topic.CARD, view.id, view.id)) for view in views]

    assert 1 <= len(town.slack.asked("conversations.create")) <= 20
    assert {o.counted for o in outcomes if o.state == "later"} == {False}


def test_pacing_stays_below_the_tier_in_any_minute() -> None:
    times = [0.0]
    pace = Pace(clock=lambda: times[-1])
    made: list[float] = []
    while times[-1] < 300:
        wait = pace.take("conversations.create")
        if wait == 0:
            made.append(times[-1])
        times.append(times[-1] + (wait or 0.01))
    busiest = max(sum(start <= each < start + 60 for each in made) for start in made)

    assert 15 <= busiest <= 20


def test_posts_are_paced_per_channel() -> None:
    pace = Pace(clock=lambda: 0.0)
    burst = 0
    while pace.take("chat.postMessage", "C1") == 0:
        burst += 1

    assert burst < 6
    assert pace.take("chat.postMessage", "C2") == 0


# -- the loop


async def until(done: Any, seconds: float = 10) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110  the fakes know no event; the deadline is above
            await asyncio.sleep(0.01)


async def test_the_loop_recovers_first_then_drains_what_comes(town: Town) -> None:
    task = asyncio.create_task(town.sender.run())
    town.service.due.append(APPROVAL)
    await until(lambda: APPROVAL.key in town.service.outcomes)
    town.service.due.append(GATE)
    await until(lambda: GATE.key in town.service.outcomes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [call.verb for call in town.service.calls][:2] == ["outbox_recover", "outbox_due"]
    assert [town.service.outcomes[item.key][-1].state for item in (APPROVAL, GATE)] == ["sent", "sent"]


async def test_the_loop_outlives_a_database_that_is_away(town: Town) -> None:
    town.service.fails["outbox_due"] = Unavailable("the database does not answer")
    task = asyncio.create_task(town.sender.run())
    await until(lambda: town.service.recovered)
    await asyncio.sleep(0)
    del town.service.fails["outbox_due"]
    town.service.due.append(APPROVAL)
    await until(lambda: APPROVAL.key in town.service.outcomes)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_row_that_was_sent_is_reported_even_if_the_database_was_away(town: Town) -> None:
    """Otherwise it would be sent again."""
    town.service.fails["outbox_sent"] = Unavailable("the database does not answer")
    task = asyncio.create_task(town.sender.send(APPROVAL))
    await until(lambda: len(town.slack.asked("chat.postMessage")) == 1)
    del town.service.fails["outbox_sent"]
    await asyncio.wait_for(task, 10)

    assert town.service.outcomes[APPROVAL.key] == [Outcome("sent")]
    assert len(town.slack.asked("chat.postMessage")) == 1
