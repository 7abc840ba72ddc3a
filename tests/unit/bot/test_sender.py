"""The outbox sender: each row told once, whatever Slack does; and what becomes of a row that could not be told."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import Any

import aiohttp
import pytest

from bot.options import BotOptions
from bot.slack.channels import Channels, name_for
from bot.slack.delivery import Delivery
from bot.slack.pacing import Pace
from bot.slack.sender import MAX_TRIES, Sender
from bot.slack.workspace import Workspace
from bot.views import messages, render
from bot.views.limits import TooMuch
from engine.domain.errors import Unavailable
from engine.domain.incident import IncidentView, MessageRef, OutboxItem, Topic
from engine.domain.states import ApprovalState
from tests.doubles import incidents as told
from tests.doubles.service import FakeService, Outcome, row
from tests.doubles.slack import FakeChannel, FakeSlack, Fault

LOST = Fault(TimeoutError(), carried_out=True)


class Town:
    """A sender with its fake surroundings."""

    def __init__(
        self,
        *views: IncidentView,
        feed: str = "signalbox",
        invite: tuple[str, ...] = ("U0ALICE1",),
        pace: Pace | None = None,
    ) -> None:
        self.service = FakeService(*views)
        self.slack = FakeSlack()
        options = BotOptions(public_url="https://box.test", feed_channel=feed, invite=invite)
        minutes = itertools.count(0, 60)
        unhurried = Pace(clock=lambda: float(next(minutes)))  # a minute goes by between any two calls
        workspace = Workspace(self.slack, pace or unhurried)
        channels = Channels(self.service, workspace, options)
        self.sender = Sender(self.service, Delivery(self.service, workspace, channels, options))

    async def send(self, item: OutboxItem) -> Outcome:
        """Send one row; returns what became of it."""
        await self.sender.send(item)
        return self.service.outcomes[item.key][-1]

    async def insist(self, item: OutboxItem) -> Outcome:
        """Send a row as the outbox would, again and again, until it is done."""
        for attempts in range(5):
            outcome = await self.send(dataclasses.replace(item, attempts=attempts))
            item = dataclasses.replace(item, ambiguous=outcome.ambiguous)
            if outcome.state != "later":
                return outcome
        return outcome

    def channel(self) -> FakeChannel:
        return self.slack.named("inc-12-disk-srv-on-checkout-1-is-96-full")

    def shown(self) -> list[str]:
        """The texts in the incident's channel."""
        return [message["text"] for message in self.channel().messages]


CARD = row(Topic.CARD, "inc-a1")
FEED = row(Topic.FEED, "inc-a1")
APPROVAL = row(Topic.APPROVAL, "approval-1")
GATE = row(Topic.GATE_REPORTED, "verdict-staging-ok")
LEG = row(Topic.LEG_REPORTED, "attempt-staging")


@pytest.fixture
def town() -> Town:
    return Town(told.incident())


# -- channels


async def test_the_first_row_makes_the_channel_sets_its_topic_and_invites(town: Town) -> None:
    assert (await town.send(APPROVAL)).state == "sent"
    channel = town.channel()

    assert "https://box.test/incidents/12" in channel.topic
    assert channel.members == ["U0ALICE1"]
    assert town.service.refs["channel:inc-a1"] == MessageRef(channel=channel.id, ts="")


async def test_a_channel_is_made_furnished_and_asked_about_once(town: Town) -> None:
    for item in (CARD, APPROVAL, GATE, LEG):
        await town.send(item)

    for method in ("conversations.create", "conversations.setTopic", "conversations.invite"):
        assert len(town.slack.asked(method)) == 1


async def test_after_a_restart_the_channel_is_not_furnished_again(town: Town) -> None:
    await town.send(CARD)
    later = Town(told.incident())
    later.service.refs, later.slack.channels = town.service.refs, town.slack.channels
    await later.send(APPROVAL)

    assert not later.slack.asked("conversations.setTopic")
    assert not later.slack.asked("conversations.create")


async def test_a_channel_whose_creation_lost_its_answer_is_adopted(town: Town) -> None:
    town.slack.fail("conversations.create", LOST)

    assert (await town.insist(APPROVAL)).state == "sent"
    assert [c.name for c in town.slack.channels] == ["inc-12-disk-srv-on-checkout-1-is-96-full"]


@pytest.mark.parametrize(
    "stranger", [{"creator": "U0MALLORY", "created": 9e9}, {"creator": "U0BOT", "created": told.T0.timestamp() - 60}]
)
async def test_a_channel_of_somebody_else_or_of_before_is_never_adopted(town: Town, stranger: dict[str, Any]) -> None:
    """Otherwise whoever guesses the next name reads the incident, or two incidents share a room."""
    name = name_for(12, told.incident().title)
    town.slack.add(FakeChannel(id="C0FOREIGN", name=name, **stranger))
    await town.send(APPROVAL)

    assert town.service.refs["channel:inc-a1"].channel != "C0FOREIGN"
    assert town.slack.named(f"{name}-2").messages


async def test_who_declared_the_incident_is_invited() -> None:
    town = Town(told.incident(opened_by="U0CAROL3"))
    await town.send(CARD)

    assert town.channel().members == ["U0ALICE1", "U0CAROL3"]


async def test_one_unknown_user_does_not_keep_the_others_out() -> None:
    town = Town(told.incident(), invite=("U0NOBODY", "U0BOB22"))

    assert (await town.send(CARD)).state == "sent"
    assert town.channel().members == ["U0BOB22"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Disk /srv is full!", "inc-7-disk-srv-is-full"),
        ("Größe über 90 %", "inc-7-groe-uber-90"),
        ("消防車 🚒", "inc-7"),
        ("x" * 200, "inc-7-" + "x" * 74),
        ("a" * 73 + " b", "inc-7-" + "a" * 73),
        ("<!channel>", "inc-7-channel"),
    ],
)
def test_a_channels_name_is_what_slack_allows(title: str, name: str) -> None:
    assert name_for(7, title) == name
    assert len(name_for(7, title, 2)) <= 80


# -- the card


async def test_the_card_is_posted_once_and_edited_afterwards(town: Town) -> None:
    await town.send(CARD)
    town.service.views[12] = told.incident(told.halted().runs[0])
    await town.send(CARD)

    assert len(town.shown()) == 1
    assert "Halted" in town.shown()[0]


async def test_a_card_whose_answer_was_lost_is_found_by_whoever_comes_next(town: Town) -> None:
    """The card may be posted by any row; a leg's row must not post a second one."""
    town.slack.fail("chat.postMessage", LOST)
    await town.send(CARD)
    await town.send(LEG)

    assert len([m for m in town.channel().messages if "thread_ts" not in m]) == 1


async def test_a_deleted_card_is_posted_anew(town: Town) -> None:
    await town.send(CARD)
    town.channel().messages.clear()

    assert (await town.send(CARD)).state == "sent"
    assert len(town.shown()) == 1


async def test_rows_of_one_incident_that_leave_together_make_one_channel_and_one_card(town: Town) -> None:
    await asyncio.gather(*(town.send(item) for item in (CARD, LEG, GATE, APPROVAL)))

    assert len(town.slack.asked("conversations.create")) == 1
    assert len([text for text in town.shown() if "#12" in text and "waits for a person's yes" in text]) == 1


async def test_legs_are_told_in_the_cards_thread_and_edited_there(town: Town) -> None:
    await town.send(LEG)
    await town.send(dataclasses.replace(LEG, key="attempt ended"))
    card, leg = town.channel().messages

    assert leg["thread_ts"] == card["ts"]


# -- once, whatever happens


@pytest.mark.parametrize("item", [APPROVAL, GATE, LEG], ids=["approval", "gate", "leg"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(TimeoutError(), carried_out=True),
        Fault(aiohttp.ServerDisconnectedError(), carried_out=True),
        Fault("internal_error", status=500, carried_out=True),
        Fault("fatal_error", carried_out=True),
    ],
    ids=["timeout", "disconnected", "500", "fatal_error"],
)
async def test_a_message_whose_answer_was_lost_is_not_sent_twice(town: Town, item: OutboxItem, fault: Fault) -> None:
    await town.send(CARD)
    before = len(town.shown())
    town.slack.fail("chat.postMessage", fault)
    first = await town.send(item)
    again = await town.send(dataclasses.replace(item, attempts=1, ambiguous=first.ambiguous))

    assert (first.state, first.ambiguous) == ("later", True)
    assert again.state == "sent"
    assert len(town.shown()) == before + 1


async def test_a_message_that_never_left_is_sent(town: Town) -> None:
    town.slack.fail("chat.postMessage", Fault(TimeoutError()))

    assert (await town.insist(APPROVAL)).state == "sent"
    assert len(town.shown()) == 1


async def test_an_approval_is_asked_once_and_edited_to_its_answer(town: Town) -> None:
    await town.send(APPROVAL)
    run = dataclasses.replace(told.run(), approvals=(told.approval(ApprovalState.REJECTED, reason="Wrong host"),))
    town.service.views[12] = told.incident(run)
    await town.send(dataclasses.replace(APPROVAL, key="approval-1 answered"))
    [message] = town.channel().messages

    assert town.service.refs["approval:approval-1"].ts == message["ts"]
    assert "Wrong host" in str(message["blocks"])
    assert "actions" not in [block["type"] for block in message["blocks"]]


async def test_every_topic_has_a_way() -> None:
    view = told.completed()
    run = dataclasses.replace(view.runs[0], escalations=(told.escalation(),))
    town = Town(dataclasses.replace(view, runs=(run,)))
    subjects = {
        Topic.LEG_REPORTED: "attempt-staging",
        Topic.GATE_REPORTED: "verdict-staging-ok",
        Topic.APPROVAL: "approval-1",
        Topic.ESCALATION: "escalation-1",
        Topic.ALERT_CHANGED: "1",
        Topic.RUN_ENDED: "run-1",
        Topic.NOTE_WRITTEN: "note-1",
    }
    for topic in Topic:
        assert (await town.send(row(topic, subjects.get(topic, "inc-a1")))).state == "sent"


async def test_a_row_about_nothing_is_given_up_with_its_reason(town: Town) -> None:
    outcome = await town.send(row(Topic.APPROVAL, "approval-99"))

    assert outcome.state == "dead"
    assert "approval-99" in outcome.reason


# -- the feed


async def test_an_incident_without_a_run_lives_in_the_feed_alone() -> None:
    town = Town(told.unknown())
    for item in (CARD, FEED, row(Topic.ALERT_CHANGED, "1")):
        town.service.views[12] = dataclasses.replace(told.unknown(), events=told.events())
        assert (await town.send(item)).state == "sent"
    [line, reply] = town.slack.named("signalbox").messages

    assert [c.name for c in town.slack.channels] == ["signalbox"]
    assert reply["thread_ts"] == line["ts"]


async def test_an_incident_that_a_person_declared_has_a_channel_without_a_run() -> None:
    town = Town(dataclasses.replace(told.unknown(), opened_by="U0CAROL3"))
    await town.send(CARD)

    assert town.slack.named("inc-12-something-odd-on-db-7").messages


async def test_the_feed_learns_of_the_channel_when_it_is_made(town: Town) -> None:
    await town.send(FEED)
    await town.send(CARD)

    assert f"<#{town.channel().id}>" in str(town.slack.named("signalbox").messages[0]["blocks"])


async def test_a_feed_channel_of_an_administrator_is_joined(town: Town) -> None:
    town.slack.add(FakeChannel(id="C0FEED00", name="signalbox", creator="U0ADMIN"))
    await town.send(FEED)

    assert town.slack.asked("conversations.join") == [{"channel": "C0FEED00"}]
    assert len(town.slack.channels[0].messages) == 1


async def test_a_feed_channel_that_was_deleted_is_made_anew(town: Town) -> None:
    town.service.refs["feed-channel:signalbox"] = MessageRef(channel="C0DELETED", ts="")

    assert (await town.send(FEED)).state == "sent"
    assert len(town.slack.named("signalbox").messages) == 1


async def test_a_feed_channel_given_by_id_is_never_searched_for() -> None:
    town = Town(told.incident(), feed="C0FEED00")
    town.slack.add(FakeChannel(id="C0FEED00", name="ops"))
    await town.send(FEED)

    assert not town.slack.asked("conversations.list")
    assert not town.slack.asked("conversations.create")


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
    town.slack.fail("chat.postMessage", Fault("restricted_action"))

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
