"""Block elements and composition objects as Slack checks them; `blockkit` calls it for each block.

https://docs.slack.dev/reference/block-kit/block-elements/ and .../composition-objects/
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from demo.workspace.errors import Json

CONFIRM = {"title": 100, "text": 300, "confirm": 30, "deny": 30}
SECTION = frozenset(
    {
        "button",
        "image",
        "static_select",
        "multi_static_select",
        "users_select",
        "overflow",
        "radio_buttons",
        "checkboxes",
    }
)


class Problems:
    """Collects what is wrong, with a JSON pointer each, and counts the characters of text."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.characters = 0

    def add(self, what: str, at: str) -> None:
        """Note one problem."""
        self.found.append(f"{what} [json-pointer:{at}]")

    def count(self, text: Any) -> None:
        """Count text that a reader will see."""
        self.characters += len(text) if isinstance(text, str) else 0

    def fields(self, at: str, value: Json, required: Collection[str], optional: Collection[str]) -> None:
        """Required fields are there, unknown ones are not."""
        for name in required:
            if name not in value:
                self.add(f"missing required field: {name}", at)
        for name in value:
            if name not in required and name not in optional and name not in ("type", "block_id"):
                self.add(f"invalid additional property: {name}", at)

    def items(self, at: str, value: Any, least: int, most: int) -> list[Any]:
        """A list within its limits; an empty list when it is none."""
        if not isinstance(value, list):
            self.add("must be an array", at)
            return []
        if len(value) > most:
            self.add(f"no more than {most} items allowed", at)
        if len(value) < least:
            self.add(f"no fewer than {least} items allowed", at)
        return value

    def string(self, at: str, value: Any, *, most: int, least: int = 0) -> None:
        """A string within its limits."""
        if not isinstance(value, str):
            self.add("must be a string", at)
        elif len(value) > most:
            self.add(f"must be less than {most + 1} characters", at)
        elif len(value) < least:
            self.add(f"must be more than {least - 1} characters", at)

    def text(self, at: str, value: Any, *, most: int, plain: bool = False) -> None:
        """A text object."""
        if not isinstance(value, dict):
            self.add("must be an object", at)
            return
        kind = value.get("type")
        if kind not in (("plain_text",) if plain else ("plain_text", "mrkdwn")):
            self.add("must be plain_text" if plain else "must be plain_text or mrkdwn", f"{at}/type")
        self.fields(at, value, ("text",), ("emoji",) if kind == "plain_text" else ("verbatim",))
        self.string(f"{at}/text", value.get("text"), most=most, least=1)
        self.count(value.get("text"))


def _confirm(p: Problems, at: str, value: Any) -> None:
    if not isinstance(value, dict):
        p.add("must be an object", at)
        return
    p.fields(at, value, CONFIRM, ("style",))
    for name, most in CONFIRM.items():
        p.text(f"{at}/{name}", value.get(name), most=most, plain=name != "text")


def _option(p: Problems, at: str, value: Any, *, plain: bool, url: bool = False) -> None:
    if not isinstance(value, dict):
        p.add("must be an object", at)
        return
    p.fields(at, value, ("text", "value"), ("description", "url") if url else ("description",))
    p.text(f"{at}/text", value.get("text"), most=75, plain=plain)
    p.string(f"{at}/value", value.get("value"), most=150)
    if "description" in value:
        p.text(f"{at}/description", value["description"], most=75, plain=plain)


def _options(p: Problems, at: str, value: Any, most: int, *, plain: bool, url: bool = False) -> None:
    for i, option in enumerate(p.items(at, value, 1, most)):
        _option(p, f"{at}/{i}", option, plain=plain, url=url)


def _button(p: Problems, at: str, e: Json) -> None:
    p.fields(at, e, ("text",), ("action_id", "url", "value", "style", "confirm", "accessibility_label"))
    p.text(f"{at}/text", e.get("text"), most=75, plain=True)
    for name, most in (("value", 2000), ("url", 3000), ("accessibility_label", 75)):
        if name in e:
            p.string(f"{at}/{name}", e[name], most=most)
    if e.get("style", "primary") not in ("primary", "danger"):
        p.add("must be primary or danger", f"{at}/style")


def _menu(p: Problems, at: str, e: Json) -> None:
    extra = ("initial_option",) if e["type"] == "static_select" else ("initial_options", "max_selected_items")
    known = ("action_id", "placeholder", "confirm", "focus_on_load", "options", "option_groups", *extra)
    p.fields(at, e, (), known)
    if ("options" in e) == ("option_groups" in e):
        p.add("must have either options or option_groups", at)
    if "options" in e:
        _options(p, f"{at}/options", e["options"], 100, plain=True)
    for i, group in enumerate(p.items(f"{at}/option_groups", e.get("option_groups", []), 0, 100)):
        where = f"{at}/option_groups/{i}"
        if not isinstance(group, dict):
            p.add("must be an object", where)
            continue
        p.fields(where, group, ("label", "options"), ())
        p.text(f"{where}/label", group.get("label"), most=75, plain=True)
        _options(p, f"{where}/options", group.get("options"), 100, plain=True)
    _initial(p, at, e)


def _initial(p: Problems, at: str, e: Json) -> None:
    """What is chosen at first must be one of the options, field for field."""
    lists = [e.get("options"), *[g.get("options") for g in e.get("option_groups", []) if isinstance(g, dict)]]
    options = [option for options in lists if isinstance(options, list) for option in options]
    if "initial_option" in e and e["initial_option"] not in options:
        p.add("must be one of the options", f"{at}/initial_option")
    for i, option in enumerate(p.items(f"{at}/initial_options", e.get("initial_options", []), 0, 100)):
        if option not in options:
            p.add("must be one of the options", f"{at}/initial_options/{i}")


def _users(p: Problems, at: str, e: Json) -> None:
    p.fields(at, e, (), ("action_id", "placeholder", "initial_user", "confirm", "focus_on_load"))


def _overflow(p: Problems, at: str, e: Json) -> None:
    p.fields(at, e, ("options",), ("action_id", "confirm"))
    _options(p, f"{at}/options", e.get("options"), 5, plain=True, url=True)


def _boxes(p: Problems, at: str, e: Json) -> None:
    initial = "initial_option" if e["type"] == "radio_buttons" else "initial_options"
    p.fields(at, e, ("options",), ("action_id", initial, "confirm", "focus_on_load"))
    _options(p, f"{at}/options", e.get("options"), 10, plain=False)
    _initial(p, at, e)


def _text_input(p: Problems, at: str, e: Json) -> None:
    lengths = ("min_length", "max_length")
    other = ("action_id", "initial_value", "multiline", "dispatch_action_config", "focus_on_load", "placeholder")
    p.fields(at, e, (), (*other, *lengths))
    for name in lengths:
        if name in e and not (isinstance(e[name], int) and 0 <= e[name] <= 3000):
            p.add("must be a number from 0 to 3000", f"{at}/{name}")
    if "initial_value" in e:
        p.string(f"{at}/initial_value", e["initial_value"], most=3000)


ELEMENTS: dict[str, Callable[[Problems, str, Json], None]] = {
    "button": _button,
    "static_select": _menu,
    "multi_static_select": _menu,
    "users_select": _users,
    "overflow": _overflow,
    "radio_buttons": _boxes,
    "checkboxes": _boxes,
    "plain_text_input": _text_input,
}
""" Interactive elements: each carries an action_id. """


def check_element(p: Problems, at: str, element: Any, allowed: Collection[str]) -> None:
    """One element (or, in a context block, a text object) in its place."""
    if not isinstance(element, dict):
        p.add("must be an object", at)
        return
    kind = element.get("type")
    if kind not in allowed:
        p.add(f"unsupported type: {kind}", f"{at}/type")
        return
    if kind in ("mrkdwn", "plain_text"):
        p.text(at, element, most=3000)
        return
    if kind == "image":
        p.fields(at, element, ("alt_text",), ("image_url",))
        p.string(f"{at}/image_url", element.get("image_url"), most=3000, least=1)
        p.string(f"{at}/alt_text", element.get("alt_text"), most=2000)
        return
    ELEMENTS[str(kind)](p, at, element)
    if "action_id" in element:
        p.string(f"{at}/action_id", element["action_id"], most=255, least=1)
    if "placeholder" in element:
        p.text(f"{at}/placeholder", element["placeholder"], most=150, plain=True)
    if "confirm" in element:
        _confirm(p, f"{at}/confirm", element["confirm"])
