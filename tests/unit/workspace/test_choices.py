"""What people can put into elements, and how it is reported."""

from typing import Any

import pytest

from demo.workspace import choices
from demo.workspace.errors import CannotDo, Json

OPTIONS = [{"text": {"type": "plain_text", "text": name}, "value": name} for name in ("a", "b")]
LABEL = {"type": "plain_text", "text": "?"}


def field(block_id: str, element: Json, **more: Any) -> Json:
    return {"type": "input", "block_id": block_id, "label": LABEL, "element": {"action_id": "v", **element}, **more}


def view(*blocks: Json) -> Json:
    return {"blocks": list(blocks)}


TEXT = field("t", {"type": "plain_text_input", "min_length": 3, "max_length": 5})
SELECT = field("s", {"type": "static_select", "options": OPTIONS, "initial_option": OPTIONS[0]})
RADIO = field("r", {"type": "radio_buttons", "options": OPTIONS})
BOXES = field("c", {"type": "checkboxes", "options": OPTIONS}, optional=True)


def test_state_has_slacks_shape_for_each_kind() -> None:
    state, errors = choices.filled(
        view(TEXT, SELECT, RADIO, BOXES), {"t": {"v": "word"}, "r": {"v": "b"}, "c": {"v": ["a", "b"]}}
    )
    assert errors == {}
    assert state == {
        "t": {"v": {"type": "plain_text_input", "value": "word"}},
        "s": {"v": {"type": "static_select", "selected_option": OPTIONS[0]}},
        "r": {"v": {"type": "radio_buttons", "selected_option": OPTIONS[1]}},
        "c": {"v": {"type": "checkboxes", "selected_options": OPTIONS}},
    }


def test_required_fields_must_be_filled_optional_ones_need_not() -> None:
    _, errors = choices.filled(view(TEXT, RADIO, BOXES), {})
    assert errors == {"t": choices.REQUIRED, "r": choices.REQUIRED}


@pytest.mark.parametrize(("text", "word"), [("ab", "at least 3"), ("abcdef", "at most 5")])
def test_lengths_of_text_are_checked_before_the_app_hears_of_it(text: str, word: str) -> None:
    _, errors = choices.filled(view(TEXT), {"t": {"v": text}})
    assert word in errors["t"]


def test_an_option_that_is_not_there_cannot_be_chosen() -> None:
    with pytest.raises(CannotDo, match="not one of the options"):
        choices.filled(view(RADIO), {"r": {"v": "z"}})


def test_a_field_that_is_not_there_cannot_be_filled() -> None:
    with pytest.raises(CannotDo, match="no field x/v"):
        choices.filled(view(RADIO), {"x": {"v": "a"}})


def test_an_element_is_found_only_where_it_stands() -> None:
    button = {"type": "button", "action_id": "go", "text": LABEL, "value": "1"}
    blocks = [{"type": "actions", "block_id": b, "elements": [button]} for b in ("one", "two")]
    with pytest.raises(CannotDo, match="say which block_id"):
        choices.find(blocks, "go")
    assert choices.find(blocks, "go", "two")[0]["block_id"] == "two"
    with pytest.raises(CannotDo, match="there are: go"):
        choices.find(blocks, "gone")


def test_a_button_keeps_its_own_value() -> None:
    button = {"type": "button", "action_id": "go", "text": LABEL, "value": "1"}
    assert choices.chosen(button, None) == {}
    with pytest.raises(CannotDo, match="the button's value"):
        choices.chosen(button, "2")
