"""Clicks, forms and commands, signed as Slack signs them, through the whole application."""

from __future__ import annotations

import io
import json
import threading
import time
from typing import Any

import pytest

from bot.slack import desk
from bot.slack.forms import NoteForm, RejectForm
from engine.domain.alert import Severity
from engine.domain.errors import BadInput, Conflict, NotAllowed, Refused, SignalboxError, Unavailable
from engine.domain.incident import MessageRef, Person
from engine.domain.states import Decision
from engine.service import Service
from tests.doubles.service import FakeService
from tests.doubles.slack import click, command, interaction, signed, submission
from tests.unit.bot.conftest import Bot

ALICE = Person(id="U0ALICE1", name="alice")
HERE = MessageRef(channel="C0INC12", ts="1800000001.000100")


def test_the_fake_front_door_has_every_verb_of_the_real_one() -> None:
    verbs = {name for name, member in vars(Service).items() if callable(member) and not name.startswith("_")}

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


# -- forms


async def test_reject_asks_why_before_it_says_no(bot: Bot) -> None:
    await bot.act(click("approval.reject", "tok-approve"))
    [view] = bot.slack.opened()

    assert not bot.service.asked("approve")
    assert view["callback_id"] == "approval.reject"
    assert json.loads(view["private_metadata"])["token"] == "tok-approve"


def reject(reason: str, **changes: Any) -> dict[str, Any]:
    metadata = RejectForm(token="tok-approve", channel=HERE.channel, ts=HERE.ts).model_dump_json()
    typed = {"reason": {"text": {"type": "plain_text_input", "value": reason}}}
    return submission("approval.reject", metadata, typed, **changes)


async def test_a_rejection_carries_its_reason(bot: Bot) -> None:
    status, text = await bot.act(reject("Wrong host"))

    assert (status, text) == (200, "")
    assert bot.service.asked("approve") == [
        {"token": "tok-approve", "person": ALICE, "yes": False, "reason": "Wrong host", "at": HERE}
    ]


async def test_a_rejection_without_a_reason_is_asked_again(bot: Bot) -> None:
    _, text = await bot.act(reject("  \n "))

    assert json.loads(text)["errors"]["reason"]
    assert not bot.service.asked("approve")


async def test_a_rejection_that_failed_keeps_the_reason_and_can_be_sent_again(bot: Bot) -> None:
    bot.service.fails["approve"] = Unavailable("the database does not answer")
    _, text = await bot.act(reject("Wrong host"))
    view = json.loads(text)["view"]
    del bot.service.fails["approve"]
    again = submission("approval.reject", view["private_metadata"], reject("Wrong host")["view"]["state"]["values"])
    _, second = await bot.act(again)

    assert "Nothing was lost" in json.dumps(view["blocks"])
    assert "Wrong host" in json.dumps(view["blocks"])
    assert second == ""
    assert len(bot.service.asked("approve")) == 1


async def test_a_note_that_failed_can_be_sent_again_as_it_came_back(bot: Bot) -> None:
    bot.service.fails["note"] = Unavailable("the database does not answer")
    _, text = await bot.act(note())
    del bot.service.fails["note"]
    metadata = json.loads(text)["view"]["private_metadata"]
    await bot.act(submission("note.write", metadata, note()["view"]["state"]["values"]))

    assert len(bot.service.asked("note")) == 1


async def test_a_submission_sent_twice_counts_once(bot: Bot) -> None:
    await bot.act(reject("Wrong host"))
    await bot.act(reject("Wrong host"))

    assert len(bot.service.asked("approve")) == 1


async def test_the_harness_note_opens_with_the_steps_of_the_run(bot: Bot) -> None:
    await bot.act(click("note.open", "12"))
    [view] = bot.slack.opened()

    assert "step:diagnose" in [block.get("block_id") for block in view["blocks"]]


async def test_a_note_button_without_a_number_is_refused(bot: Bot) -> None:
    await bot.act(click("note.open", "twelve", response_url=f"{bot.slack.url}/respond"))

    assert not bot.slack.opened()
    assert "names no incident" in bot.slack.private[0]["text"]


async def test_a_form_that_slack_does_not_open_is_said(bot: Bot) -> None:
    bot.slack.answers["views.open"] = {"ok": False, "error": "expired_trigger_id"}
    await bot.act(click("note.open", "12", response_url=f"{bot.slack.url}/respond"))

    assert "did not open the form" in bot.slack.private[0]["text"]


def note(what: str = "It guessed.", rule: str = "Do not guess.") -> dict[str, Any]:
    def select(mark: str) -> dict[str, Any]:
        option = {"text": {"type": "plain_text", "text": mark}, "value": mark}
        return {"mark": {"type": "static_select", "selected_option": option}}

    def text(value: str | None) -> dict[str, Any]:
        return {"text": {"type": "plain_text_input", "value": value}}

    values = {
        "step:diagnose": select("drifted"),
        "step:fix": select("followed"),
        "what": text(what),
        "change": text(None),
        "rule": text(rule),
    }
    return submission("note.write", NoteForm(number=12, title="Disk").model_dump_json(), values)


async def test_a_harness_note_arrives_whole(bot: Bot) -> None:
    status, text = await bot.act(note())

    assert (status, text) == (200, "")
    assert bot.service.asked("note") == [
        {
            "number": 12,
            "person": ALICE,
            "steps": {"diagnose": "drifted", "fix": "followed"},
            "what": "It guessed.",
            "change": "",
            "rule": "Do not guess.",
        }
    ]


async def test_a_note_says_in_the_form_what_is_missing(bot: Bot) -> None:
    _, text = await bot.act(note(what=" ", rule=""))

    assert set(json.loads(text)["errors"]) == {"what", "rule"}
    assert not bot.service.asked("note")


async def test_a_refused_note_comes_back_filled_in(bot: Bot) -> None:
    bot.service.fails["note"] = BadInput("the rule is over 120 characters", "shorten it")
    _, text = await bot.act(note())
    view = json.loads(text)["view"]
    marks = {b["block_id"]: b["element"]["initial_option"]["value"] for b in view["blocks"] if "step:" in str(b)}

    assert "over 120 characters" in json.dumps(view["blocks"])
    assert marks == {"step:diagnose": "drifted", "step:fix": "followed"}
    assert "It guessed." in json.dumps(view["blocks"])


# -- the command


async def said(bot: Bot, text: str, **more: str) -> dict[str, Any]:
    status, answer = await bot.send(command(text, **more))
    assert status == 200
    found: dict[str, Any] = json.loads(answer) if answer else {}
    return found


async def test_list_shows_open_incidents_privately(bot: Bot) -> None:
    answer = await said(bot, "list")

    assert answer["response_type"] == "ephemeral"
    assert "#12" in str(answer["blocks"])
    assert bot.service.asked("incidents")[-1]["only_open"] is True


@pytest.mark.parametrize("words", ["show 12", "show #12", "show INC-12", "SHOW 12"])
async def test_show_draws_the_card(bot: Bot, words: str) -> None:
    assert "Disk /srv" in str((await said(bot, words))["blocks"])


async def test_in_an_incidents_channel_the_number_may_be_left_out(bot: Bot) -> None:
    bot.service.refs["channel:inc-a1"] = MessageRef(channel="C0INC12", ts="")
    answer = await said(bot, "show", channel="C0INC12")

    assert "Disk /srv" in str(answer["blocks"])


async def test_elsewhere_a_missing_number_is_asked_for(bot: Bot) -> None:
    assert "which incident?" in (await said(bot, "show"))["text"]


async def test_declare_takes_its_options_from_anywhere(bot: Bot) -> None:
    await said(bot, "declare --severity high Disk &amp; more <full> --runbook=disk-full today")

    assert bot.service.asked("declare") == [
        {"person": ALICE, "title": "Disk & more <full> today", "severity": Severity.HIGH, "runbook": "disk-full"}
    ]


async def test_declare_understands_the_long_dash_of_phones(bot: Bot) -> None:
    await said(bot, "declare Disk full —severity warning")

    assert bot.service.asked("declare")[0]["severity"] is Severity.WARNING


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("declare x --severity terrible", "there is no severity terrible"),
        ("declare x --colour red", "there is no option --colour"),
        ("declare x --runbook", "--runbook needs a value"),
    ],
)
async def test_a_wrong_option_is_explained(bot: Bot, words: str, problem: str) -> None:
    assert problem in (await said(bot, words))["text"]
    assert not bot.service.asked("declare")


async def test_abandon_takes_number_and_reason(bot: Bot) -> None:
    await said(bot, "abandon 12 it was a test")

    assert bot.service.asked("abandon") == [{"number": 12, "person": ALICE, "reason": "it was a test"}]


async def test_abandon_in_the_channel_takes_all_words_as_reason(bot: Bot) -> None:
    bot.service.refs["channel:inc-a1"] = MessageRef(channel="C0INC12", ts="")
    await said(bot, "abandon it was a test", channel="C0INC12")

    assert bot.service.asked("abandon") == [{"number": 12, "person": ALICE, "reason": "it was a test"}]


async def test_close_closes(bot: Bot) -> None:
    assert "Closed #12" in (await said(bot, "close 12"))["text"]


async def test_note_opens_the_form(bot: Bot) -> None:
    assert await said(bot, "note 12") == {}
    assert bot.slack.opened()[0]["callback_id"] == "note.write"


@pytest.mark.parametrize("words", ["", "help", "  "])
async def test_help_lists_every_word(bot: Bot, words: str) -> None:
    answer = str((await said(bot, words))["blocks"])

    for word in ("list", "show", "declare", "abandon", "close", "note", "help"):
        assert f"/signalbox {word}" in answer


async def test_an_unknown_word_gets_help_with_a_suggestion(bot: Bot) -> None:
    assert "Did you mean `/signalbox declare`?" in str((await said(bot, "delcare disk full"))["blocks"])


async def test_the_same_command_sent_twice_declares_once(bot: Bot) -> None:
    await said(bot, "declare Disk full")
    await said(bot, "declare Disk full")

    assert len(bot.service.asked("declare")) == 1


async def test_a_command_that_may_not_be_says_who_may(bot: Bot) -> None:
    bot.service.fails["abandon"] = NotAllowed("you may not decide this", "these people may: <@U0BOB22>")

    assert "<@U0BOB22>" in (await said(bot, "abandon 12"))["text"]
