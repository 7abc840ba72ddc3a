"""The real slack_sdk client against the workspace: what Slack takes and what it refuses."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from demo.workspace import ANA, BEN, BOT, CLEO, Workspace
from tests.integration.workspace.app import TOKEN, Bot, buttons, text

Team = tuple[Workspace, Bot]


async def refused(call: Any, code: str) -> Any:
    """Await a call that Slack refuses with this code; returns the answer."""
    with pytest.raises(SlackApiError) as error:
        await call
    assert error.value.response["error"] == code
    return error.value.response


async def channel(client: AsyncWebClient, name: str = "inc-7", **more: Any) -> str:
    """Make a channel; returns its id."""
    return str((await client.conversations_create(name=name, **more))["channel"]["id"])


async def test_auth_test_names_the_bot(team: Team) -> None:
    answer = await team[1].client.auth_test()
    assert (answer["user_id"], answer["bot_id"]) == (BOT.id, "B0SIGNALBX")


async def test_a_wrong_token_and_a_missing_one_are_told_apart(team: Team) -> None:
    workspace, _ = team
    wrong = AsyncWebClient(token="xoxb-other", base_url=workspace.api_url)
    await refused(wrong.auth_test(), "invalid_auth")
    await refused(AsyncWebClient(base_url=workspace.api_url).auth_test(), "not_authed")


async def test_an_unknown_method_is_named_as_such(team: Team) -> None:
    await refused(team[1].client.api_call("chat.sing"), "unknown_method")


@pytest.mark.parametrize("how", ["query", "form", "json"])
async def test_arguments_are_taken_from_query_form_and_json(team: Team, how: str) -> None:
    workspace, _ = team
    where = {"query": "params", "form": "data", "json": "json"}[how]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        request: Any = {where: {"user": ANA.id}}
        async with session.request(
            "GET" if how == "query" else "POST", f"{workspace.api_url}users.info", **request
        ) as r:
            assert (await r.json())["user"]["name"] == "ana"


async def test_a_post_is_found_in_history_with_its_metadata_only_on_request(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    fact = {"event_type": "outbox", "event_payload": {"key": "gate17"}}
    sent = await client.chat_postMessage(channel=ch, text="hello", metadata=fact, unfurl_links=False)
    assert sent["message"]["bot_id"] == "B0SIGNALBX"
    plain = await client.conversations_history(channel=ch)
    assert plain["messages"][0]["ts"] == sent["ts"]
    assert "metadata" not in plain["messages"][0]
    full = await client.conversations_history(channel=ch, include_all_metadata=True)
    assert full["messages"][0]["metadata"] == fact
    assert full["messages"][-1]["subtype"] == "channel_join"


async def test_history_is_cut_by_time_and_paged(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    ts = [(await client.chat_postMessage(channel=ch, text=str(i)))["ts"] for i in range(4)]
    after = await client.conversations_history(channel=ch, oldest=ts[1])
    assert [m["text"] for m in after["messages"]] == ["3", "2"]
    both = await client.conversations_history(channel=ch, oldest=ts[1], latest=ts[2], inclusive=True)
    assert [m["text"] for m in both["messages"]] == ["2", "1"]
    first = await client.conversations_history(channel=ch, limit=3)
    assert first["has_more"]
    cursor = first["response_metadata"]["next_cursor"]
    rest = await client.conversations_history(channel=ch, limit=3, cursor=cursor)
    assert rest["messages"][0]["text"] == "0"
    assert not rest["has_more"]


async def test_a_thread_is_in_replies_and_not_in_history(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    parent = (await client.chat_postMessage(channel=ch, text="card"))["ts"]
    reply = (await client.chat_postMessage(channel=ch, text="detail", thread_ts=parent))["ts"]
    top = await client.conversations_history(channel=ch)
    assert (top["messages"][0]["ts"], top["messages"][0]["reply_count"]) == (parent, 1)
    thread = await client.conversations_replies(channel=ch, ts=parent)
    assert [m["ts"] for m in thread["messages"]] == [parent, reply]
    await refused(client.chat_postMessage(channel=ch, text="x", thread_ts="1.2"), "cannot_reply_to_message")
    await refused(client.chat_postMessage(channel=ch, text="x", thread_ts=reply), "cannot_reply_to_message")
    await refused(client.conversations_replies(channel=ch, ts="1.2"), "thread_not_found")


async def test_the_bot_writes_only_where_it_is_a_member(team: Team) -> None:
    workspace, bot = team
    general = workspace.team.by_name("general")
    assert general is not None
    await refused(bot.client.chat_postMessage(channel=general.id, text="x"), "not_in_channel")
    await refused(bot.client.conversations_history(channel=general.id), "not_in_channel")
    await bot.client.conversations_join(channel=general.id)
    assert (await bot.client.chat_postMessage(channel="#general", text="x"))["channel"] == general.id
    again = await bot.client.conversations_join(channel=general.id)
    assert again["warning"] == "already_in_channel"


async def test_a_person_is_reached_by_their_id(team: Team) -> None:
    client = team[1].client
    sent = await client.chat_postMessage(channel=ANA.id, text="psst")
    assert sent["channel"].startswith("D")
    assert (await client.conversations_open(users=ANA.id))["channel"]["id"] == sent["channel"]


async def test_channels_have_rules(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    await refused(client.conversations_create(name="inc-7"), "name_taken")
    await refused(client.conversations_create(name="Inc 8"), "invalid_name_specials")
    await refused(client.conversations_info(channel="C0NOWHERE"), "channel_not_found")
    await refused(client.conversations_setTopic(channel=ch, topic="t" * 251), "too_long")
    await client.conversations_setTopic(channel=ch, topic="SEV2")
    await client.conversations_setPurpose(channel=ch, purpose="checkout")
    info = (await client.conversations_info(channel=ch, include_num_members=True))["channel"]
    assert (info["topic"]["value"], info["purpose"]["value"], info["num_members"]) == ("SEV2", "checkout", 1)
    await client.conversations_rename(channel=ch, name="inc-7-done")
    await client.conversations_archive(channel=ch)
    await refused(client.conversations_archive(channel=ch), "already_archived")
    await refused(client.chat_postMessage(channel=ch, text="x"), "is_archived")
    await refused(client.conversations_create(name="inc-7-done"), "name_taken")
    listed = await client.conversations_list(exclude_archived=True)
    assert [c["name"] for c in listed["channels"]] == ["general"]


async def test_invitations_are_all_or_nobody_unless_forced(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    await client.conversations_invite(channel=ch, users=ANA.id)
    answer = await refused(client.conversations_invite(channel=ch, users=[ANA.id, BEN.id]), "already_in_channel")
    assert answer["errors"] == [{"user": ANA.id, "ok": False, "error": "already_in_channel"}]
    assert (await client.conversations_members(channel=ch))["members"] == [BOT.id, ANA.id]
    await client.conversations_invite(channel=ch, users=[ANA.id, BEN.id], force=True)
    assert (await client.conversations_members(channel=ch))["members"] == [BOT.id, ANA.id, BEN.id]
    await refused(client.conversations_invite(channel=ch, users="U0NOBODY"), "user_not_found")
    await refused(client.conversations_invite(channel=ch, users=BOT.id), "cant_invite_self")


async def test_an_update_without_blocks_takes_the_blocks_away(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    ts = (await client.chat_postMessage(channel=ch, text="card", blocks=[buttons("approve")]))["ts"]
    kept = await client.chat_update(channel=ch, ts=ts, text="card", blocks=[{"type": "divider"}])
    assert "edited" not in kept["message"]
    bare = await client.chat_update(channel=ch, ts=ts, text="done")
    assert "blocks" not in bare["message"]
    assert bare["message"]["edited"]
    await refused(client.chat_update(channel=ch, ts=ts, text="x" * 4001), "msg_too_long")
    await refused(client.chat_update(channel=ch, ts="1.2", text="x"), "message_not_found")


async def test_the_bot_cannot_change_what_a_person_wrote(team: Team) -> None:
    workspace, bot = team
    ch = await channel(bot.client)
    workspace.people.join(ANA.id, ch)
    ts = workspace.people.say(ANA.id, ch, "mine").ts
    await refused(bot.client.chat_update(channel=ch, ts=ts, text="not"), "cant_update_message")
    await refused(bot.client.chat_delete(channel=ch, ts=ts), "cant_delete_message")


async def test_long_text_is_cut_with_a_warning_and_none_at_all_is_refused(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    sent = await client.chat_postMessage(channel=ch, text="x" * 40_001)
    assert sent["warning"] == "message_truncated"
    assert len(sent["message"]["text"]) == 40_000
    await refused(client.api_call("chat.postMessage", json={"channel": ch}), "no_text")


async def test_bad_blocks_come_back_with_pointers(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    blocks = [{"type": "header", "text": text("x" * 151)}]
    answer = await refused(client.chat_postMessage(channel=ch, text="x", blocks=blocks), "invalid_blocks")
    assert answer["response_metadata"]["messages"] == [
        "[ERROR] must be less than 151 characters [json-pointer:/blocks/0/text/text]"
    ]
    await refused(client.chat_postMessage(channel=ch, text="x", blocks="[{"), "invalid_blocks_format")


async def test_ephemeral_messages_need_a_member_and_stay_out_of_history(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    await refused(client.chat_postEphemeral(channel=ch, user=CLEO.id, text="x"), "user_not_in_channel")
    await client.conversations_invite(channel=ch, users=CLEO.id)
    ts = (await client.chat_postEphemeral(channel=ch, user=CLEO.id, text="only you"))["message_ts"]
    history = await client.conversations_history(channel=ch)
    assert ts not in [m["ts"] for m in history["messages"]]
    await refused(client.chat_update(channel=ch, ts=ts, text="x"), "message_not_found")


async def test_pins_bookmarks_reactions_and_permalinks(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    ts = (await client.chat_postMessage(channel=ch, text="card"))["ts"]
    await client.pins_add(channel=ch, timestamp=ts)
    await refused(client.pins_add(channel=ch, timestamp=ts), "already_pinned")
    await client.reactions_add(channel=ch, timestamp=ts, name="eyes")
    await refused(client.reactions_add(channel=ch, timestamp=ts, name="eyes"), "already_reacted")
    mark = await client.bookmarks_add(channel_id=ch, title="Page", type="link", link="https://e.com")
    assert mark["bookmark"]["id"].startswith("Bk")
    link = (await client.chat_getPermalink(channel=ch, message_ts=ts))["permalink"]
    async with aiohttp.ClientSession() as session, session.get(link) as page:
        assert page.status == 200
        assert f'id="m-{ts}"' in await page.text()


async def test_people_and_user_groups_are_listed(team: Team) -> None:
    workspace, bot = team
    workspace.team.usergroups = {"S0SRE": [BEN.id]}
    assert (await bot.client.usergroups_users_list(usergroup="S0SRE"))["users"] == [BEN.id]
    await refused(bot.client.usergroups_users_list(usergroup="S0NONE"), "no_such_subteam")
    assert [u["name"] for u in (await bot.client.users_list())["members"]] == ["ana", "ben", "cleo", "signalbox"]
    await refused(bot.client.users_info(user="U0NOBODY"), "user_not_found")


async def test_the_sixth_post_of_a_second_is_limited_and_says_for_how_long(team: Team) -> None:
    client = team[1].client
    ch = await channel(client)
    for i in range(5):
        await client.chat_postMessage(channel=ch, text=str(i))
    with pytest.raises(SlackApiError) as error:
        await client.chat_postMessage(channel=ch, text="6")
    assert (error.value.response.status_code, error.value.response["error"]) == (429, "ratelimited")
    assert error.value.response.headers["Retry-After"] == "1"
    assert (await client.conversations_history(channel=ch))["messages"][0]["text"] == "4"


async def test_the_twenty_first_channel_of_a_minute_is_limited(team: Team) -> None:
    client = team[1].client
    for i in range(20):
        await client.conversations_create(name=f"inc-{i}")
    answer = await refused(client.conversations_create(name="inc-20"), "ratelimited")
    assert 50 <= int(answer.headers["Retry-After"]) <= 60
