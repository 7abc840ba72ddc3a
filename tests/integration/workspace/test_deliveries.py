"""Commands, clicks, modals and events reach a real bolt application, signed, within Slack's deadline."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier

from demo.workspace import ANA, BEN, BOT, CLEO, Workspace
from demo.workspace.delivery import signature
from demo.workspace.errors import CannotDo, Json
from demo.workspace.model import Channel, Message
from tests.integration.workspace.app import NOTE, SECRET, Bot, buttons, text, workspace_with_bot

Team = tuple[Workspace, Bot]


async def posted(team: Team, *blocks: Json, **more: Any) -> tuple[Channel, Message]:
    """A channel with Ana in it and one message of the bot."""
    workspace, bot = team
    made = await bot.client.conversations_create(name="inc-7")
    channel = workspace.team.channels[made["channel"]["id"]]
    await bot.client.conversations_invite(channel=channel.id, users=ANA.id)
    sent = await bot.client.chat_postMessage(channel=channel.id, text="card", blocks=list(blocks), **more)
    message = channel.message(sent["ts"])
    assert message is not None
    return channel, message


def test_the_signature_is_the_one_that_slack_sdk_makes() -> None:
    assert signature(SECRET, 1_700_000_000, "a=b") == SignatureVerifier(SECRET).generate_signature(
        timestamp="1700000000", body="a=b"
    )


async def test_a_command_arrives_and_its_answer_is_for_its_sender_only(team: Team) -> None:
    workspace, bot = team
    (outcome,) = await workspace.people.command(ANA.id, "general", "/signalbox show <7> & @ben")
    assert (outcome.status, outcome.seen) == (200, "")
    body = bot.seen[0]
    assert (body["command"], body["user_id"], body["channel_name"]) == ("/signalbox", ANA.id, "general")
    assert body["text"] == f"show &lt;7&gt; &amp; <@{BEN.id}>"
    general = workspace.team.by_name("general")
    assert general is not None
    assert (general.messages[-1].visible_to, general.messages[-1].from_app) == (ANA.id, True)
    await workspace.people.command(ANA.id, "general", "/signalbox public")
    assert (general.messages[-1].visible_to, general.messages[-1].text) == (None, "for all")


async def test_a_command_that_is_not_acknowledged_in_three_seconds_shows_operation_timeout(team: Team) -> None:
    workspace, _ = team
    (outcome,) = await workspace.people.command(ANA.id, "general", "/signalbox hang")
    assert outcome.seen == '/signalbox failed with the error "operation_timeout"'
    assert 2900 <= outcome.ms < 4500
    general = workspace.team.by_name("general")
    assert general is not None
    assert (general.messages[-1].text, general.messages[-1].visible_to) == (outcome.seen, ANA.id)


async def test_a_command_nobody_registered_stays_here(team: Team) -> None:
    workspace, bot = team
    (outcome,) = await workspace.people.command(ANA.id, "general", "/deploy now")
    assert "is not a valid command" in outcome.seen
    assert bot.seen == []


async def test_an_application_that_is_not_there_shows_dispatch_failed(team: Team) -> None:
    workspace, _ = team
    workspace.delivery.request_url = "http://127.0.0.1:1/slack/events"
    (outcome,) = await workspace.people.command(ANA.id, "general", "/signalbox list")
    assert outcome.seen.endswith('"dispatch_failed"')


async def test_a_wrong_secret_and_a_stale_timestamp_are_refused_by_bolt(team: Team) -> None:
    workspace, bot = team
    (first,) = await workspace.people.command(ANA.id, "general", "/signalbox list")
    (forged,) = await workspace.people.replay(first.delivery, 1, age_s=0, forged=True)
    (stale,) = await workspace.people.replay(first.delivery, 1, age_s=301, forged=False)
    (again,) = await workspace.people.replay(first.delivery, 1, age_s=0, forged=False)
    assert (first.status, forged.status, stale.status, again.status) == (200, 401, 401, 200)
    assert len(bot.seen) == 2


async def test_a_click_carries_what_the_message_says_and_nothing_else_can_be_clicked(team: Team) -> None:
    workspace, bot = team
    channel, message = await posted(team, buttons("approve", "choose"))
    (outcome,) = await workspace.people.click(ANA.id, channel.id, message.ts, "approve")
    assert outcome.status == 200
    body = bot.seen[0]
    assert body["actions"][0]["value"] == "token-approve"
    assert body["container"] == {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": channel.id,
        "is_ephemeral": False,
    }
    assert (body["user"]["id"], body["message"]["ts"], body["channel"]["id"]) == (ANA.id, message.ts, channel.id)
    with pytest.raises(CannotDo, match="there are: approve, choose"):
        await workspace.people.click(ANA.id, channel.id, message.ts, "reject")
    with pytest.raises(CannotDo, match="the button's value"):
        await workspace.people.click(ANA.id, channel.id, message.ts, "approve", value="forged")
    await bot.client.chat_update(channel=channel.id, ts=message.ts, text="decided")
    with pytest.raises(CannotDo, match="there are: none"):
        await workspace.people.click(ANA.id, channel.id, message.ts, "approve")


async def test_a_private_answer_to_a_click_is_seen_by_the_clicker_only(team: Team) -> None:
    workspace, _ = team
    channel, message = await posted(team, buttons("approve"))
    await workspace.people.click(CLEO.id, channel.id, message.ts, "approve")
    answer = channel.messages[-1]
    assert (answer.text, answer.visible_to) == ("You may not: Ben may.", CLEO.id)
    with pytest.raises(CannotDo, match="sees no message"):
        await workspace.people.click(ANA.id, channel.id, answer.ts, "approve")


async def test_the_same_click_arrives_as_often_as_a_bad_network_sends_it(team: Team) -> None:
    workspace, bot = team
    channel, message = await posted(team, buttons("choose"))
    outcomes = await workspace.people.click(ANA.id, channel.id, message.ts, "choose", times=3)
    assert [outcome.status for outcome in outcomes] == [200, 200, 200]
    assert len({body["trigger_id"] for body in bot.seen}) == 1
    assert len(bot.seen) == 3


async def test_a_choice_from_a_menu_is_in_the_action_and_in_the_state(team: Team) -> None:
    workspace, bot = team
    options = [{"text": text(name), "value": name} for name in ("disk-full", "cert-expiry")]
    menu = {"type": "static_select", "action_id": "choose", "options": options}
    block = {"type": "section", "block_id": "b", "text": text("Runbook?"), "accessory": menu}
    channel, message = await posted(team, block)
    await workspace.people.click(ANA.id, channel.id, message.ts, "choose", value="cert-expiry")
    body = bot.seen[0]
    chosen = {"text": {"type": "plain_text", "text": "cert-expiry", "emoji": True}, "value": "cert-expiry"}
    assert body["actions"][0]["selected_option"] == chosen
    assert body["state"]["values"]["b"]["choose"] == {"type": "static_select", "selected_option": chosen}
    with pytest.raises(CannotDo, match="not one of the options"):
        await workspace.people.click(ANA.id, channel.id, message.ts, "choose", value="rm-rf")


async def test_a_click_that_is_not_answered_in_time_is_told_to_the_clicker(team: Team) -> None:
    workspace, _ = team
    channel, message = await posted(team, buttons("hang"))
    (outcome,) = await workspace.people.click(ANA.id, channel.id, message.ts, "hang")
    assert (outcome.status, outcome.seen) == (0, "operation_timeout")
    assert message.notices == {ANA.id: "operation_timeout"}


async def opened(team: Team) -> Json:
    """The harness note, open for Ana."""
    workspace, _ = team
    channel, message = await posted(team, buttons("note"))
    await workspace.people.click(ANA.id, channel.id, message.ts, "note")
    return workspace.api.modals.stack(ANA.id)[-1]


def filled(words: str) -> Json:
    return {"what": {"v": words}, "how": {"v": "drifted"}}


async def test_a_submitted_modal_arrives_with_its_values_and_closes(team: Team) -> None:
    workspace, bot = team
    view = await opened(team)
    (outcome,) = await workspace.people.submit(ANA.id, view["id"], filled("Never truncate."))
    assert (outcome.status, outcome.errors) == (200, {})
    body = bot.seen[-1]
    assert body["view"]["private_metadata"] == "INC-7"
    assert body["view"]["state"]["values"]["what"] == {"v": {"type": "plain_text_input", "value": "Never truncate."}}
    assert body["view"]["state"]["values"]["how"]["v"]["selected_option"]["value"] == "drifted"
    assert workspace.api.modals.stack(ANA.id) == []


async def test_errors_keep_the_modal_open_and_name_their_field(team: Team) -> None:
    workspace, _ = team
    view = await opened(team)
    (outcome,) = await workspace.people.submit(ANA.id, view["id"], filled("short"))
    assert outcome.errors == {"what": "A little longer, please."}
    assert len(workspace.api.modals.stack(ANA.id)) == 1


async def test_an_empty_required_field_never_reaches_the_application(team: Team) -> None:
    workspace, bot = team
    view = await opened(team)
    before = len(bot.seen)
    (outcome,) = await workspace.people.submit(ANA.id, view["id"], {})
    assert set(outcome.errors) == {"what", "how"}
    assert len(bot.seen) == before


async def test_update_shows_another_view_and_errors_for_no_field_show_trouble(team: Team) -> None:
    workspace, _ = team
    view = await opened(team)
    await workspace.people.submit(ANA.id, view["id"], filled("update"))
    (now,) = workspace.api.modals.stack(ANA.id)
    assert (now["id"], now["title"]["text"]) == (view["id"], "Again")
    (outcome,) = await workspace.people.submit(ANA.id, view["id"], filled("wrong"))
    assert outcome.seen == "We had some trouble connecting. Try again?"
    assert len(workspace.api.modals.stack(ANA.id)) == 1


async def test_closing_is_told_to_the_application_that_asked_for_it(team: Team) -> None:
    workspace, bot = team
    view = await opened(team)
    await workspace.people.close(ANA.id, view["id"])
    assert (bot.seen[-1]["type"], bot.seen[-1]["is_cleared"]) == ("view_closed", False)
    with pytest.raises(CannotDo, match="does not see the view"):
        await workspace.people.submit(ANA.id, view["id"], {})


async def test_a_trigger_opens_one_view_only(team: Team) -> None:
    _, bot = team
    await opened(team)
    with pytest.raises(SlackApiError, match="exchanged_trigger_id"):
        await bot.client.views_open(trigger_id=bot.seen[-1]["trigger_id"], view=NOTE)
    with pytest.raises(SlackApiError, match="invalid_trigger_id"):
        await bot.client.views_open(trigger_id="1.2.x", view=NOTE)


async def test_a_view_is_updated_by_its_hash(team: Team) -> None:
    _, bot = team
    view = await opened(team)
    with pytest.raises(SlackApiError, match="hash_conflict"):
        await bot.client.views_update(view_id=view["id"], hash="1.x", view=NOTE)
    done = await bot.client.views_update(view_id=view["id"], hash=view["hash"], view=NOTE)
    assert done["view"]["id"] == view["id"]


async def test_a_response_url_can_replace_and_delete_the_message_and_ends_after_five_uses(team: Team) -> None:
    workspace, bot = team
    channel, message = await posted(team, buttons("choose"))
    await workspace.people.click(ANA.id, channel.id, message.ts, "choose")
    url = bot.seen[0]["response_url"]
    async with aiohttp.ClientSession() as session:

        async def answer(**body: Any) -> int:
            async with session.post(url, json=body) as response:
                return response.status

        assert await answer(text="decided", replace_original=True) == 200
        assert (message.text, message.blocks) == ("decided", [])
        assert await answer(text="x", blocks=[{"type": "poem"}]) == 400
        assert await answer(delete_original=True) == 200
        assert channel.message(message.ts) is None
        assert [await answer(text="x") for _ in range(3)] == [200, 200, 404]


async def test_an_event_that_is_not_taken_comes_again_with_number_and_reason() -> None:
    async with workspace_with_bot(events=["member_joined_channel"], time_factor=1000) as team:
        workspace, bot = team
        bot.events_to_fail = 2
        workspace.people.join(CLEO.id, (await posted(team, buttons("choose")))[0].id)
        got = [(await asyncio.wait_for(bot.events.get(), 10))["event"]["user"] for _ in range(3)]
        assert sorted(got) == sorted([BOT.id, ANA.id, CLEO.id])
        assert sorted(row["retry"] for row in workspace.journal.deliveries if row["kind"] == "event")[-1] >= 1


async def test_events_nobody_subscribed_to_are_not_sent(team: Team) -> None:
    workspace, _ = team
    await posted(team, buttons("choose"))
    assert workspace.journal.deliveries == []


async def test_payloads_have_the_fields_of_slacks_reference(team: Team) -> None:
    workspace, _ = team
    await opened(team)
    kinds = {row["kind"]: row["body"] for row in workspace.journal.deliveries}
    click = json.loads(parse_qs(kinds["block_actions"])["payload"][0])
    # https://docs.slack.dev/reference/interaction-payloads/block_actions-payload
    assert {
        "type",
        "user",
        "api_app_id",
        "token",
        "container",
        "trigger_id",
        "team",
        "enterprise",
        "is_enterprise_install",
        "channel",
        "message",
        "state",
        "response_url",
        "actions",
    } == set(click)
