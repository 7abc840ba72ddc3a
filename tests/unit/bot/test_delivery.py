"""Where each row goes and that it is told once: channels, the card, the feed, whatever answer was lost."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import aiohttp
import pytest

from bot.slack.channels import name_for
from engine.domain.incident import MessageRef, OutboxItem, Topic
from engine.domain.states import ApprovalState, Decision
from tests.doubles import incidents as told
from tests.doubles.service import row
from tests.doubles.slack import FakeChannel, Fault
from tests.unit.bot.town import APPROVAL, CARD, FEED, GATE, LEG, Town

LOST = Fault(TimeoutError(), carried_out=True)


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
        Topic.APPROVAL_REMINDER: "approval-1",
        Topic.ESCALATION_REMINDER: "escalation-1",
        Topic.ALERT_CHANGED: "1",
        Topic.RUN_ENDED: "run-1",
        Topic.NOTE_WRITTEN: "note-1",
    }
    for topic in Topic:
        assert (await town.send(row(topic, subjects.get(topic, "inc-a1")))).state == "sent"


# -- reminders


WARNED = row(Topic.APPROVAL_REMINDER, "approval-1", key="approval:approval-1:warned:1")
REMINDER = row(Topic.ESCALATION_REMINDER, "escalation-1", key="escalation:escalation-1:reminder:1")
ESCALATION = row(Topic.ESCALATION, "escalation-1")


async def test_a_reminder_is_a_new_message_that_leads_to_the_question(town: Town) -> None:
    await town.send(APPROVAL)
    await town.send(WARNED)
    question, reminder = town.channel().messages

    assert f"/p{question['ts'].replace('.', '')}|" in str(reminder["blocks"])
    assert "<@U0ALICE1>" in reminder["text"]


async def test_a_reminder_of_what_was_answered_meanwhile_is_not_sent(town: Town) -> None:
    run = dataclasses.replace(told.run(), approvals=(told.approval(ApprovalState.APPROVED),))
    town.service.views[12] = told.incident(run)

    assert (await town.send(WARNED)).state == "sent"
    assert not town.slack.asked("chat.postMessage")


async def test_a_halt_is_reminded_of_in_its_channel_and_in_the_feed() -> None:
    town = Town(told.halted())
    await town.send(ESCALATION)
    await town.send(REMINDER)
    [line] = town.slack.named("signalbox").messages

    assert "#12" in line["text"]
    assert len(town.channel().messages) == 2


async def test_a_second_reminder_is_a_message_of_its_own() -> None:
    town = Town(told.halted())
    await town.send(ESCALATION)
    await town.send(REMINDER)
    await town.send(dataclasses.replace(REMINDER, key="escalation:escalation-1:reminder:2"))

    assert len(town.channel().messages) == 3
    assert len(town.slack.named("signalbox").messages) == 2


async def test_the_line_in_the_feed_that_failed_is_sent_again_without_a_second_reminder_in_the_channel() -> None:
    town = Town(told.halted())
    await town.send(ESCALATION)
    await town.send(FEED)  # the feed is known from here on: the next post but one goes there
    posts = len(town.slack.asked("chat.postMessage"))
    original = town.slack.api_call

    async def trip(api_method: str, **request: Any) -> Any:
        if api_method == "chat.postMessage" and len(town.slack.asked("chat.postMessage")) == posts + 1:
            town.slack.fail("chat.postMessage", Fault("internal_error", status=500))
        return await original(api_method, **request)

    town.slack.api_call = trip  # type: ignore[method-assign]  # the second post of the row meets a fault
    assert (await town.send(REMINDER)).state == "later"
    town.slack.api_call = original  # type: ignore[method-assign]
    assert (await town.insist(dataclasses.replace(REMINDER, attempts=1, ambiguous=True))).state == "sent"

    assert len(town.channel().messages) == 2
    assert len(town.slack.named("signalbox").messages) == 2


async def test_reminders_stop_asking_when_there_is_an_answer() -> None:
    town = Town(told.halted())
    for item in (ESCALATION, REMINDER):
        await town.send(item)
    run = dataclasses.replace(told.halted().runs[0], escalations=(told.escalation(Decision.RETRY),))
    town.service.views[12] = told.incident(run)
    await town.send(dataclasses.replace(ESCALATION, key="escalation-1 decided"))

    for message in (*town.channel().messages, *town.slack.named("signalbox").messages):
        assert "escalation.extend" not in str(message["blocks"])
        assert "Retry" in message["text"]


async def test_a_reminder_leads_to_the_page_where_the_question_was_deleted(town: Town) -> None:
    await town.send(APPROVAL)
    town.channel().messages.clear()
    await town.send(WARNED)

    assert "https://box.test/incidents/12|" in str(town.channel().messages[0]["blocks"])


async def test_a_reminder_whose_answer_was_lost_is_not_sent_twice(town: Town) -> None:
    await town.send(APPROVAL)
    town.slack.fail("chat.postMessage", LOST)

    assert (await town.insist(WARNED)).state == "sent"
    assert len(town.channel().messages) == 2


async def test_the_card_says_that_the_kill_switch_is_on(town: Town) -> None:
    town.service.switch = told.ON
    await town.send(CARD)

    assert "The kill switch is on" in str(town.channel().messages[0]["blocks"])


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
