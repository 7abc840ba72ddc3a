"""The escapes: nothing that Slack would read as markup gets out, and no cut splits an escape."""

from __future__ import annotations

import html
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.views import escape, limits
from bot.views.render import Message


@given(st.text(), st.integers(min_value=4, max_value=400))
def test_mrkdwn_is_one_inert_line_within_its_limit(text: str, limit: int) -> None:
    found = escape.mrkdwn(text, limit)

    assert len(found) <= limit
    assert not set(found) & set("<>\n\r\t\x00")
    assert "```" not in found
    assert html.escape(html.unescape(found), quote=False) == found


@given(st.text(), st.integers(min_value=4, max_value=400))
def test_plain_is_never_empty_and_has_no_brackets(text: str, limit: int) -> None:
    found = escape.plain(text, limit)

    assert 1 <= len(found) <= limit
    assert not set(found) & set("<>\n")


@given(st.text(), st.integers(min_value=12, max_value=400))
def test_a_code_span_cannot_be_left(text: str, limit: int) -> None:
    found = escape.code(text, limit)

    assert len(found) <= limit
    assert found.count("`") in {0, 2}


@given(st.text(), st.integers(min_value=20, max_value=400))
def test_a_code_block_cannot_be_left(text: str, limit: int) -> None:
    found = escape.fence(text, limit)

    assert len(found) <= limit
    assert found.count("`") in {0, 6}


@given(st.lists(st.text(alphabet="ab&;", max_size=40)), st.integers(min_value=60, max_value=300))
def test_fit_keeps_whole_lines_and_says_what_it_left_out(lines: list[str], limit: int) -> None:
    found = escape.fit(lines, limit)

    assert len(found) <= limit
    if found != "\n".join(lines):
        assert found.endswith(" more")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a & b <c>", "a &amp; b &lt;c&gt;"),
        ("<!channel> and @here", "&lt;!channel&gt; and @\u2060here"),
        ("see `df` first", "see `df` first"),
        ("an open ` tick", "an open ʼ tick"),
        ("two\nlines\tand  gaps", "two lines and gaps"),
        ("\x1b[31mred\x1b[0m\x07", "red"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        ("שלום", "שלום"),
    ],
)
def test_what_mrkdwn_does(text: str, shown: str) -> None:
    assert escape.mrkdwn(text) == shown


@pytest.mark.parametrize(
    ("who", "shown"),
    [
        ("U0ALICE1", "<@U0ALICE1>"),
        ("<@U0ALICE1>", "<@U0ALICE1>"),
        ("S0ONCALL", "<!subteam^S0ONCALL>"),
        ("<!subteam^S0ONCALL>", "<!subteam^S0ONCALL>"),
        ("<!channel>", "&lt;!channel&gt;"),
        ("<!here>", "&lt;!here&gt;"),
        ("<@U0ALICE1> <!channel>", "&lt;@U0ALICE1&gt; &lt;!channel&gt;"),
        ("cli:root", "cli:root"),
        ("@sre-oncall", "@sre-oncall"),
    ],
)
def test_only_ids_of_people_and_groups_become_mentions(who: str, shown: str) -> None:
    assert escape.mention(who) == shown


def test_many_people_are_counted_not_all_called() -> None:
    assert escape.mentions([f"U{n:03d}" for n in range(15)], 2) == "<@U000> <@U001> and 13 more"


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def button(**changes: Any) -> dict[str, Any]:
    return {"type": "button", "action_id": "a", "text": {"type": "plain_text", "text": "Go"}, **changes}


def select(value: str) -> dict[str, Any]:
    option = {"text": {"type": "plain_text", "text": "o"}, "value": value}
    return {"type": "static_select", "action_id": "s", "options": [option]}


BAD: dict[str, list[dict[str, Any]]] = {
    "51 blocks": [{"type": "divider"}] * 51,
    "too much text in all": [section("x" * 2900)] * 4,
    "a block_id twice": [{"type": "divider", "block_id": "x"}] * 2,
    "an action_id twice": [{"type": "actions", "elements": [button(), button()]}],
    "an empty actions block": [{"type": "actions", "elements": []}],
    "a field over 2000": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2001}]}],
    "an option's value over 150": [{"type": "actions", "elements": [select("x" * 151)]}],
    "an unknown block": [{"type": "nonsense"}],
    "an unknown element": [{"type": "actions", "elements": [{"type": "blink", "action_id": "a"}]}],
    "an unknown field": [{"type": "divider", "bogus": 1}],
    "a section over 3000": [section("x" * 3001)],
    "an empty section": [section("")],
    "a header over 150": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}],
    "a button over 75": [{"type": "actions", "elements": [button(text={"type": "plain_text", "text": "x" * 76})]}],
    "a button of an unknown style": [{"type": "actions", "elements": [button(style="blue")]}],
    "a value over 2000": [{"type": "actions", "elements": [button(value="x" * 2001)]}],
    "26 buttons": [{"type": "actions", "elements": [button(action_id=f"a{n}") for n in range(26)]}],
}


@pytest.mark.parametrize("name", BAD)
def test_what_slack_would_refuse_is_refused_here(name: str) -> None:
    """One of the three validators of bot/views/limits.py knows each."""
    with pytest.raises(limits.TooMuch):
        limits.check_message("text", BAD[name])


@pytest.mark.parametrize("text", ["", "   ", "x" * 4001])
def test_a_message_needs_a_fallback_text_of_a_size(text: str) -> None:
    with pytest.raises(limits.TooMuch):
        limits.check_message(text, [section("x")])


def modal(**changes: Any) -> dict[str, Any]:
    return {"type": "modal", "title": {"type": "plain_text", "text": "T"}, "blocks": [section("x")], **changes}


INPUT = {
    "type": "input",
    "block_id": "b",
    "label": {"type": "plain_text", "text": "l"},
    "element": {"type": "plain_text_input", "action_id": "a"},
}


@pytest.mark.parametrize(
    "view",
    [
        modal(title={"type": "plain_text", "text": "x" * 25}),
        modal(blocks=[section("x")] * 101),
        modal(blocks=[INPUT]),
        modal(private_metadata="x" * 3001),
        modal(callback_id="x" * 256),
        modal(blocks=[section("x" * 3000)] * 99),
    ],
    ids=["title", "blocks", "no submit", "metadata", "callback id", "size"],
)
def test_a_modal_that_slack_would_refuse_is_refused_here(view: dict[str, Any]) -> None:
    with pytest.raises(limits.TooMuch):
        limits.check_modal(view, json.dumps(view))


def test_a_message_without_blocks_is_a_message() -> None:
    assert Message("text", [section("x")]).plainly() == Message("text", ())
