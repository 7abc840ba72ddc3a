"""Block Kit limits: each row is one thing that Slack refuses, with the pointer to it."""

from typing import Any

import pytest

from demo.workspace import blockkit
from demo.workspace.errors import ApiError

Block = dict[str, Any]


def plain(text: str) -> Block:
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str) -> Block:
    return {"type": "mrkdwn", "text": text}


def button(text: str = "Go", **more: Any) -> Block:
    return {"type": "button", "text": plain(text), "action_id": "go", **more}


def actions(*elements: Block) -> Block:
    return {"type": "actions", "elements": list(elements)}


def select(**more: Any) -> Block:
    options = [{"text": plain("One"), "value": "1"}]
    return {"type": "static_select", "action_id": "s", "placeholder": plain("Pick"), "options": options, **more}


def section(text: str = "x", **more: Any) -> Block:
    return {"type": "section", "text": mrkdwn(text), **more}


CONFIRM = {"title": plain("Sure?"), "text": plain("It runs."), "confirm": plain("Yes"), "deny": plain("No")}

FINE: list[Block] = [
    section("x" * 3000),
    {"type": "section", "fields": [mrkdwn("f" * 2000)] * 5},
    section(accessory=button()),
    {"type": "header", "text": plain("h" * 150)},
    {"type": "divider"},
    {"type": "context", "elements": [mrkdwn("x")] * 10},
    actions(*(button(action_id=f"a{i}") for i in range(25))),
    actions(button("b" * 75, value="v" * 2000, style="primary", confirm=CONFIRM)),
    actions(select(initial_option={"text": plain("One"), "value": "1"})),
    {"type": "image", "image_url": "https://example.com/a.png", "alt_text": "a"},
    {"type": "table", "rows": [[{"type": "raw_text", "text": "x"}] * 20] * 100},
    {"type": "markdown", "text": "m" * 12_000},
]

WRONG: list[tuple[Block, str]] = [
    (section("x" * 3001), "less than 3001 characters [json-pointer:/blocks/0/text/text]"),
    (section(""), "more than 0 characters [json-pointer:/blocks/0/text/text]"),
    ({"type": "section"}, "missing required field: text [json-pointer:/blocks/0]"),
    (
        {"type": "section", "fields": [mrkdwn("x")] * 11},
        "no more than 10 items allowed [json-pointer:/blocks/0/f",
    ),
    ({"type": "section", "fields": [mrkdwn("x" * 2001)]}, "less than 2001 characters"),
    ({"type": "section", "text": {"type": "html", "text": "x"}}, "plain_text or mrkdwn"),
    (section(colour="red"), "invalid additional property: colour [json-pointer:/blocks/0]"),
    ({"type": "header", "text": plain("h" * 151)}, "less than 151 characters"),
    ({"type": "header", "text": mrkdwn("h")}, "must be plain_text"),
    ({"type": "context", "elements": [mrkdwn("x")] * 11}, "no more than 10 items"),
    ({"type": "context", "elements": []}, "no fewer than 1 items"),
    (actions(*(button(action_id=f"a{i}") for i in range(26))), "no more than 25 items"),
    (actions(), "no fewer than 1 items"),
    (actions(button(), button()), "`action_id` go already exists [json-pointer:/blocks/0/elements]"),
    (actions(button("b" * 76)), "less than 76 characters [json-pointer:/blocks/0/elements/0/text/text]"),
    (actions(button(value="v" * 2001)), "less than 2001 characters [json-pointer:/blocks/0/elements/0/value]"),
    (actions(button(url="https://" + "u" * 3000)), "less than 3001 characters"),
    (actions(button(style="warning")), "must be primary or danger"),
    (actions({**button(), "text": mrkdwn("x")}), "must be plain_text"),
    (actions(button(action_id="a" * 256)), "less than 256 characters"),
    (actions(button(confirm={**CONFIRM, "title": plain("t" * 101)})), "less than 101 characters"),
    (actions(button(confirm={**CONFIRM, "text": plain("t" * 301)})), "less than 301 characters"),
    (actions(button(confirm={**CONFIRM, "deny": plain("t" * 31)})), "less than 31 characters"),
    (actions(select(options=[])), "no fewer than 1 items"),
    (actions(select(options=[{"text": plain("One"), "value": str(i)} for i in range(101)])), "no more than 100 items"),
    (actions(select(options=[{"text": plain("o" * 76), "value": "1"}])), "less than 76 characters"),
    (actions(select(options=[{"text": plain("o"), "value": "v" * 151}])), "less than 151 characters"),
    (actions(select(initial_option={"text": plain("Two"), "value": "2"})), "must be one of the options"),
    (actions({"type": "plain_text_input", "action_id": "t"}), "unsupported type: plain_text_input"),
    ({"type": "poem", "text": "x"}, "unsupported type: poem [json-pointer:/blocks/0/type]"),
    (section(block_id="b" * 256), "less than 256 characters [json-pointer:/blocks/0/block_id]"),
    ({"type": "image", "alt_text": "a"}, "must be a string [json-pointer:/blocks/0/image_url]"),
    ({"type": "table", "rows": [[{"type": "raw_text", "text": "x"}] * 21]}, "no more than 20 items"),
    ({"type": "markdown", "text": "m" * 12_001}, "less than 12001 characters"),
]


@pytest.mark.parametrize("block", FINE, ids=lambda b: str(b["type"]))
def test_blocks_at_their_limit_pass(block: Block) -> None:
    assert blockkit.checked_message([block])


@pytest.mark.parametrize(("block", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_block_over_a_limit_is_refused_with_the_pointer_to_it(block: Block, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        blockkit.checked_message([block])
    assert refused.value.code == "invalid_blocks"
    assert any(message in text for text in refused.value.messages), refused.value.messages
    assert refused.value.answer()["response_metadata"]["messages"][0].startswith("[ERROR] ")


def test_a_message_takes_fifty_blocks_and_not_one_more() -> None:
    assert len(blockkit.checked_message([{"type": "divider"}] * 50)) == 50
    with pytest.raises(ApiError, match="invalid_blocks"):
        blockkit.checked_message([{"type": "divider"}] * 51)


def test_all_text_of_a_message_together_is_limited() -> None:
    assert blockkit.checked_message([section("x" * 2600)] * 5)
    with pytest.raises(ApiError, match="msg_blocks_too_long"):
        blockkit.checked_message([section("x" * 2700)] * 5)


def test_a_block_id_is_there_once_only() -> None:
    with pytest.raises(ApiError) as refused:
        blockkit.checked_message([section(block_id="b"), section(block_id="b")])
    assert refused.value.messages == ("`block_id` b already exists [json-pointer:/blocks/1/block_id]",)


def test_the_same_action_id_may_stand_in_two_blocks() -> None:
    assert blockkit.checked_message([actions(button()), actions(button())])


def test_texts_come_back_with_the_fields_that_slack_adds() -> None:
    (done,) = blockkit.checked_message([section(accessory=button())])
    assert done["text"] == {"type": "mrkdwn", "text": "x", "verbatim": False}
    assert done["accessory"]["text"] == {"type": "plain_text", "text": "Go", "emoji": True}


def test_missing_ids_are_filled_in_and_differ() -> None:
    done = blockkit.checked_message([section(accessory={"type": "button", "text": plain("x")}), section()])
    assert done[0]["accessory"]["action_id"]
    assert done[0]["block_id"] != done[1]["block_id"]


@pytest.mark.parametrize("blocks", ["no list", {"type": "section"}, 7])
def test_what_is_no_list_is_not_a_list_of_blocks(blocks: object) -> None:
    with pytest.raises(ApiError, match="invalid_blocks_format"):
        blockkit.checked_message(blocks)


@pytest.mark.parametrize("block", [None, "x", [], {"type": ["section"]}, {"type": "actions", "elements": "x"}])
def test_nonsense_inside_the_list_is_refused_and_never_an_exception(block: object) -> None:
    with pytest.raises(ApiError, match="invalid_blocks"):
        blockkit.checked_message([block])
