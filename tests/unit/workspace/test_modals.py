"""What a modal must look like, and each person's stack of them."""

from typing import Any

import pytest

from demo.workspace.errors import ApiError, Json
from demo.workspace.modals import Modals, checked
from demo.workspace.model import Person, Team

FIELD = {
    "type": "input",
    "block_id": "why",
    "label": {"type": "plain_text", "text": "Why"},
    "element": {"type": "plain_text_input", "action_id": "v"},
}


def modal(**more: Any) -> Json:
    base = {"type": "modal", "title": {"type": "plain_text", "text": "Reject"}, "blocks": [FIELD]}
    return {**base, "submit": {"type": "plain_text", "text": "Send"}, **more}


@pytest.fixture
def modals() -> Modals:
    bot = Person(id="UBOT", name="bot", real_name="Bot", is_bot=True)
    return Modals(Team(people={}, bot=bot))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (
            modal(title={"type": "plain_text", "text": "t" * 25}),
            "25 characters [json-pointer:/view/title/text]",
        ),
        (modal(submit={"type": "plain_text", "text": "t" * 25}), "[json-pointer:/view/submit/text]"),
        (modal(submit=None), "missing required field: submit [json-pointer:/view]"),
        (modal(private_metadata="x" * 3001), "less than 3001 characters [json-pointer:/view/private_metadata]"),
        (modal(callback_id="x" * 256), "less than 256 characters"),
        (modal(blocks=[{"type": "divider"}] * 101), "no more than 100 items allowed [json-pointer:/view/blocks]"),
        (modal(blocks=[FIELD, FIELD]), "`block_id` why already exists [json-pointer:/view/blocks/1/block_id]"),
        (modal(blocks=[{"type": "table", "rows": []}]), "unsupported type: table"),
        (modal(type="home"), "modals only"),
        (modal(size="large"), "invalid additional property: size"),
        ({"type": "modal", "blocks": []}, "missing required field: title"),
    ],
)
def test_a_modal_that_slack_refuses_is_refused(view: Json, message: str) -> None:
    with pytest.raises(ApiError, match="invalid_arguments") as refused:
        checked(view)
    assert any(message in text for text in refused.value.messages), refused.value.messages


def test_a_view_over_250_kb_is_too_large() -> None:
    with pytest.raises(ApiError, match="view_too_large"):
        checked(modal(private_metadata="x" * 260_000))


def test_three_views_stack_and_a_fourth_does_not(modals: Modals) -> None:
    first = modals.open("U1", modal())
    second = modals.push("U1", modal())
    third = modals.push("U1", modal())
    assert (third["root_view_id"], third["previous_view_id"]) == (first["id"], second["id"])
    with pytest.raises(ApiError, match="push_limit_reached"):
        modals.push("U1", modal())
    modals.close("U1", third["id"])
    assert modals.stack("U1")[-1]["id"] == second["id"]


def test_opening_replaces_what_was_open(modals: Modals) -> None:
    modals.open("U1", modal())
    fresh = modals.open("U1", modal())
    assert [view["id"] for view in modals.stack("U1")] == [fresh["id"]]


def test_an_update_keeps_the_id_and_changes_the_hash(modals: Modals) -> None:
    old = modals.open("U1", modal())
    new = modals.update("U1", old, modal(callback_id="again"))
    assert (new["id"], new["callback_id"]) == (old["id"], "again")
    assert new["hash"] != old["hash"]


def test_an_external_id_is_used_once(modals: Modals) -> None:
    modals.open("U1", modal(external_id="one"))
    with pytest.raises(ApiError, match="duplicate_external_id"):
        modals.open("U2", modal(external_id="one"))
