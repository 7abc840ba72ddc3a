"""The two forms, signed as Slack signs them, through the whole application."""

from __future__ import annotations

import json
from typing import Any

from bot.slack.forms import NoteForm, RejectForm
from engine.domain.errors import BadInput, Unavailable
from engine.domain.incident import MessageRef, Person
from tests.doubles.slack import click, submission
from tests.unit.bot.conftest import Bot

ALICE = Person(id="U0ALICE1", name="alice")
HERE = MessageRef(channel="C0INC12", ts="1800000001.000100")


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
