"""Who may speak to us, and buttons: signed as Slack signs them, through the whole application."""

from __future__ import annotations

import io
import json
import threading
import time

import pytest

from bot.slack import desk
from engine.domain.errors import BadInput, Conflict, NotAllowed, Refused, SignalboxError, Unavailable
from engine.domain.incident import MessageRef, Person
from engine.domain.states import Decision
from engine.service import Service
from engine.service.looking import Looking
from engine.service.mail import Mail
from tests.doubles.service import FakeService
from tests.doubles.slack import click, interaction, signed
from tests.unit.bot.conftest import Bot

ALICE = Person(id="U0ALICE1", name="alice")
HERE = MessageRef(channel="C0INC12", ts="1800000001.000100")


def test_the_fake_front_door_has_every_verb_of_the_real_one() -> None:
    doors = (Service, Looking, Mail)
    members = [(name, member) for door in doors for name, member in vars(door).items()]
    verbs = {name for name, member in members if callable(member) and not name.startswith("_")}

    assert verbs <= set(vars(FakeService))


# -- who may speak to us


async def test_a_wrong_signature_is_401_and_changes_nothing(bot: Bot) -> None:
    body = interaction(click("approval.approve", "tok-approve"))
    status, _ = await bot.send(body, signed(body, secret="another secret"))

    assert status == 401
    assert not bot.service.asked("approve")


async def test_a_body_changed_after_signing_is_401(bot: Bot) -> None:
    body = interaction(click("approval.approve", "tok-approve"))
    status, _ = await bot.send(body + "&x=1", signed(body))

    assert status == 401


@pytest.mark.parametrize("age", [360, -360])
async def test_a_stale_or_future_timestamp_is_401(bot: Bot, age: float) -> None:
    body = interaction(click("approval.approve", "tok-approve"))
    status, _ = await bot.send(body, signed(body, at=time.time() - age))

    assert status == 401
    assert not bot.service.asked("approve")


@pytest.mark.parametrize("stamp", ["", "yesterday", "-1", "1e9", "9" * 5000, "１２３"])
async def test_a_garbage_timestamp_is_401_not_500(bot: Bot, stamp: str) -> None:
    body = interaction(click("approval.approve", "tok-approve"))
    status, _ = await bot.send(body, {**signed(body), "X-Slack-Request-Timestamp": stamp})

    assert status == 401


async def test_a_request_without_a_signature_is_401(bot: Bot) -> None:
    body = interaction(click("approval.approve", "tok-approve"))
    headers = {name: value for name, value in signed(body).items() if name != "X-Slack-Signature"}
    status, _ = await bot.send(body, headers)

    assert status == 401


async def test_bytes_that_are_not_text_are_400(bot: Bot) -> None:
    async with bot.client.post("/slack/events", data=b"\xff\xfe", headers=signed("x")) as answer:
        assert answer.status == 400


async def test_a_body_over_a_megabyte_is_413(bot: Bot) -> None:
    body = io.BytesIO(b"payload=" + b"x" * (1 << 20))
    async with bot.client.post("/slack/events", data=body, headers=signed("x")) as answer:
        assert answer.status == 413


async def test_slack_may_verify_our_url(bot: Bot) -> None:
    """https://docs.slack.dev/reference/events/url_verification"""
    body = json.dumps({"token": "legacy", "challenge": "3eZbrw1a", "type": "url_verification", "new": 1})
    status, text = await bot.send(body, {**signed(body), "Content-Type": "application/json"})

    assert (status, json.loads(text)) == (200, {"challenge": "3eZbrw1a"})


# -- buttons


async def test_approve_says_yes_for_this_person_on_this_message(bot: Bot) -> None:
    status, _ = await bot.act(click("approval.approve", "tok-approve"))

    assert status == 200
    assert bot.service.asked("approve") == [
        {"token": "tok-approve", "person": ALICE, "yes": True, "reason": "", "at": HERE}
    ]


async def test_the_same_click_sent_three_times_counts_once(bot: Bot) -> None:
    payload = click("approval.approve", "tok-approve")
    answers = [await bot.act(payload) for _ in range(3)]

    assert [status for status, _ in answers] == [200, 200, 200]
    assert len(bot.service.asked("approve")) == 1


async def test_two_clicks_at_different_times_are_two_clicks(bot: Bot) -> None:
    await bot.act(click("approval.approve", "tok-approve", action_ts="1.1"))
    await bot.act(click("approval.approve", "tok-approve", action_ts="1.2"))

    assert len(bot.service.asked("approve")) == 2


async def test_copies_that_race_into_the_database_count_once(bot: Bot) -> None:
    bot.service.fails["first_time"] = Conflict("the row is there already")
    status, _ = await bot.act(click("approval.approve", "tok-approve"))

    assert status == 200
    assert not bot.service.asked("approve")


@pytest.mark.parametrize("decision", list(Decision))
async def test_each_decision_has_a_button_of_its_own(bot: Bot, decision: Decision) -> None:
    await bot.act(click(f"escalation.decide.{decision.value}", "tok-decide"))

    assert bot.service.asked("decide") == [
        {"token": "tok-decide", "person": ALICE, "decision": decision, "reason": "", "at": HERE}
    ]


@pytest.mark.parametrize("action_id", ["approval.extend", "escalation.extend"])
async def test_more_time_and_being_at_it_are_one_verb(bot: Bot, action_id: str) -> None:
    await bot.act(click(action_id, "tok-approve"))

    assert bot.service.asked("extend") == [{"token": "tok-approve", "person": ALICE, "at": HERE}]


async def test_choosing_a_runbook_takes_the_token_from_the_block(bot: Bot) -> None:
    """https://docs.slack.dev/reference/block-kit/block-elements/select-menu-element#static_select"""
    chosen = {"text": {"type": "plain_text", "text": "disk-full"}, "value": "disk-full"}
    payload = click("runbook.choose", block_id="choose:tok-choose", selected_option=chosen, type="static_select")
    await bot.act(payload)

    assert bot.service.asked("choose_runbook") == [{"token": "tok-choose", "person": ALICE, "runbook": "disk-full"}]


async def test_an_unknown_action_is_404_and_changes_nothing(bot: Bot) -> None:
    status, _ = await bot.act(click("approval.approve_everything", "tok"))

    assert status == 404
    assert not bot.service.asked("first_time")


ANSWERS: list[tuple[SignalboxError, str]] = [
    (NotAllowed("you may not decide this", "these people may: <@U0BOB22>"), "these people may: <@U0BOB22>"),
    (Conflict("already decided by bob: approved"), "already decided by bob"),
    (Refused("the approval is void: the artefact changed", "nothing was changed"), "the artefact changed"),
    (Unavailable("the database does not answer"), "Nothing was lost"),
    (BadInput("retry is not possible here", "possible: abandon"), "possible: abandon"),
]


@pytest.mark.parametrize(("error", "words"), ANSWERS, ids=[type(error).__name__ for error, _ in ANSWERS])
async def test_what_went_wrong_is_told_to_the_one_who_pressed(bot: Bot, error: SignalboxError, words: str) -> None:
    bot.service.fails["approve"] = error
    status, _ = await bot.act(click("approval.approve", "tok-approve", response_url=f"{bot.slack.url}/respond"))

    assert status == 200
    [answer] = bot.slack.private
    assert answer["response_type"] == "ephemeral"
    assert answer["replace_original"] is False
    assert words in answer["text"]


async def test_a_private_answer_carries_no_markup_of_strangers(bot: Bot) -> None:
    bot.service.fails["approve"] = Conflict("already decided: <!channel> @here")
    await bot.act(click("approval.approve", "tok-approve", response_url=f"{bot.slack.url}/respond"))

    assert "<!channel>" not in bot.slack.private[0]["text"]
    assert "@here" not in bot.slack.private[0]["text"]


async def test_a_fault_of_ours_is_still_answered(bot: Bot) -> None:
    bot.service.fails["approve"] = ZeroDivisionError()
    status, _ = await bot.act(click("approval.approve", "tok-approve", response_url=f"{bot.slack.url}/respond"))

    assert status == 200
    assert "broke on our side" in bot.slack.private[0]["text"]


async def test_a_click_without_a_response_url_is_still_acknowledged(bot: Bot) -> None:
    bot.service.fails["approve"] = Conflict("too late")
    status, _ = await bot.act(click("approval.approve", "tok-approve"))

    assert status == 200


async def test_a_slow_engine_is_answered_within_the_deadline(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slack gives up after three seconds; the person must hear that it may still count."""
    go_on = threading.Event()

    def wait() -> None:
        go_on.wait(20)

    bot.service.before["approve"] = wait
    monkeypatch.setattr(desk, "DEADLINE_S", 0.1)
    started = time.monotonic()
    status, _ = await bot.act(click("approval.approve", "tok-approve", response_url=f"{bot.slack.url}/respond"))
    took = time.monotonic() - started
    go_on.set()

    assert status == 200
    assert took < 2
    assert "may still count" in bot.slack.private[0]["text"]


def test_the_deadline_and_the_private_answer_fit_into_slacks_three_seconds() -> None:
    assert desk.DEADLINE_S + desk.RESPOND_S < 3
