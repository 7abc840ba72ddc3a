"""What a person may put into an element, and how Slack then reports it in `actions` and in `state.values`.

Values come as the page and the driver know them: text as a string, an option by its `value`, several as a list.
Shapes: https://docs.slack.dev/reference/views (state) and the pages of the elements.
"""

from __future__ import annotations

from typing import Any

from demo.workspace.blockkit import elements_of, options_of
from demo.workspace.errors import CannotDo, Json

SEVERAL = frozenset({"checkboxes", "multi_static_select"})
REQUIRED = "Please complete this required field."


def find(blocks: list[Json], action_id: str, block_id: str | None = None) -> tuple[Json, Json]:
    """The element of this id as it stands there now; raises CannotDo when there is none, or when there are two."""
    found = [
        (block, element)
        for block, element in elements_of(blocks)
        if element["action_id"] == action_id and block_id in (None, block["block_id"])
    ]
    if not found:
        there = ", ".join(sorted({element["action_id"] for _, element in elements_of(blocks)})) or "none"
        raise CannotDo(f"no element {action_id!r} there now; there are: {there}")
    if len(found) > 1:
        raise CannotDo(f"{action_id!r} is there {len(found)} times: say which block_id")
    return found[0]


def _option(element: Json, value: str) -> Json:
    for option in options_of(element):
        if option.get("value") == value:
            return dict(option)
    raise CannotDo(f"{value!r} is not one of the options")


def chosen(element: Json, value: Any) -> Json:
    """What `actions` and `state` say of this element when a person puts `value` in; raises CannotDo."""
    kind = element["type"]
    if kind == "button":
        if value is not None and value != element.get("value"):
            raise CannotDo(f"the button's value is {element.get('value')!r}, not {value!r}")
        return {}
    if kind in SEVERAL:
        values = value if isinstance(value, list) else [value] if value else []
        return {"selected_options": [_option(element, str(v)) for v in values]}
    if kind == "plain_text_input":
        return {"value": _typed(element, value)}
    if kind == "users_select":
        return {"selected_user": value or None}
    return {"selected_option": _option(element, str(value)) if value else None}


def _typed(element: Json, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise CannotDo("this field takes text")
    return value if element.get("multiline") else value.replace("\r", "").replace("\n", " ")


def initial(element: Json) -> Json:
    """The same, for an element that nobody has touched."""
    kind = element["type"]
    if kind in SEVERAL:
        return {"selected_options": element.get("initial_options", [])}
    if kind == "plain_text_input":
        return {"value": element.get("initial_value")}
    if kind == "users_select":
        return {"selected_user": element.get("initial_user")}
    return {"selected_option": element.get("initial_option")}


def filled(view: Json, values: Json) -> tuple[Json, dict[str, str]]:
    """`state.values` of a submission, and what the page itself would refuse: block_id -> sentence.

    `values`: block_id -> action_id -> value. Elements that are not in it keep what they started with.
    Raises CannotDo for a block or an element that the view does not have.
    """
    state: Json = {}
    errors: dict[str, str] = {}
    elements = {
        (b["block_id"], e["action_id"]): (b, e) for b, e in elements_of(view["blocks"]) if e["type"] != "button"
    }
    given = {(block, action): v for block, row in values.items() for action, v in row.items()}
    for unknown in given.keys() - elements.keys():
        raise CannotDo(f"the view has no field {unknown[0]}/{unknown[1]}; it has: {sorted(elements)}")
    for key, (block, element) in elements.items():
        entry = chosen(element, given[key]) if key in given else initial(element)
        state.setdefault(key[0], {})[key[1]] = {"type": element["type"], **entry}
        if block["type"] == "input" and (why := _refused(block, element, entry)):
            errors[key[0]] = why
    return state, errors


def _refused(block: Json, element: Json, entry: Json) -> str:
    if not any(entry.values()):
        return "" if block.get("optional") else REQUIRED
    text = entry.get("value") or ""
    most, least = element.get("max_length", 3000), element.get("min_length", 0)
    if element["type"] == "plain_text_input" and len(text) > most:
        return f"Please enter at most {most} characters."
    if element["type"] == "plain_text_input" and len(text) < least:
        return f"Please enter at least {least} characters."
    return ""
