"""/signalbox, signed as Slack signs it, through the whole application."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.domain.alert import Severity
from engine.domain.errors import NotAllowed
from engine.domain.incident import MessageRef, Person
from tests.doubles import incidents as told
from tests.doubles.slack import command
from tests.unit.bot.conftest import Bot

ALICE = Person(id="U0ALICE1", name="alice")


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


async def test_stop_throws_the_kill_switch_with_its_reason_and_resume_takes_it_back(bot: Bot) -> None:
    stopped = await said(bot, "stop a flood of alerts", trigger="1.1")
    listed = await said(bot, "list", trigger="1.2")
    resumed = await said(bot, "resume", trigger="1.3")
    again = await said(bot, "list", trigger="1.4")

    assert bot.service.asked("throw_kill_switch") == [
        {"person": ALICE, "on": True, "reason": "a flood of alerts"},
        {"person": ALICE, "on": False, "reason": ""},
    ]
    assert "kill switch is on" in stopped["text"]
    assert "/signalbox resume" in stopped["text"]
    assert "a flood of alerts" in str(listed["blocks"][0])
    assert "things go on" in resumed["text"]
    assert "kill switch" not in str(again)


async def test_show_says_that_the_kill_switch_is_on(bot: Bot) -> None:
    bot.service.switch = told.ON

    assert "The kill switch is on" in str((await said(bot, "show 12"))["blocks"])


async def test_note_opens_the_form(bot: Bot) -> None:
    assert await said(bot, "note 12") == {}
    assert bot.slack.opened()[0]["callback_id"] == "note.write"


@pytest.mark.parametrize("words", ["", "help", "  "])
async def test_help_lists_every_word(bot: Bot, words: str) -> None:
    answer = str((await said(bot, words))["blocks"])

    for word in ("list", "show", "declare", "abandon", "close", "stop", "resume", "note", "help"):
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
