"""Block Kit as Slack checks it: https://docs.slack.dev/reference/block-kit/. Limits, ids, known types and fields.

Narrower than Slack on purpose: a kind of block that this workspace cannot draw is refused, so that nothing looks right
here that nobody has seen. Problems read as Slack's: `must be less than 76 characters [json-pointer:/blocks/0/...]`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import Any

from demo.workspace.blockkit_elements import ELEMENTS, SECTION, Problems, check_element
from demo.workspace.errors import ApiError, Json

MESSAGE_BLOCKS = 50
VIEW_BLOCKS = 100
MESSAGE_TEXT = 13_200
""" All text of a message's blocks; undocumented, measured by others (slackapi/bolt-js#2509). """

BUTTONS_AND_MENUS = frozenset({"button", "static_select", "users_select", "overflow", "radio_buttons", "checkboxes"})
INPUTS = frozenset(
    {"plain_text_input", "static_select", "multi_static_select", "users_select", "radio_buttons", "checkboxes"}
)


def _section(p: Problems, at: str, block: Json, _surface: str) -> None:
    p.fields(at, block, (), ("text", "fields", "accessory", "expand"))
    if not block.get("text") and not block.get("fields"):
        p.add("missing required field: text", at)
    if "text" in block:
        p.text(f"{at}/text", block["text"], most=3000)
    if "fields" in block:
        for i, item in enumerate(p.items(f"{at}/fields", block["fields"], 1, 10)):
            p.text(f"{at}/fields/{i}", item, most=2000)
    if "accessory" in block:
        check_element(p, f"{at}/accessory", block["accessory"], SECTION)


def _header(p: Problems, at: str, block: Json, _surface: str) -> None:
    p.fields(at, block, ("text",), ("level",))
    p.text(f"{at}/text", block.get("text"), most=150, plain=True)


def _divider(p: Problems, at: str, block: Json, _surface: str) -> None:
    p.fields(at, block, (), ())


def _elements(p: Problems, at: str, block: Json, most: int, allowed: Collection[str]) -> None:
    p.fields(at, block, ("elements",), ())
    elements = p.items(f"{at}/elements", block.get("elements"), 1, most)
    for i, element in enumerate(elements):
        check_element(p, f"{at}/elements/{i}", element, allowed)
    ids = [e["action_id"] for e in elements if isinstance(e, dict) and e.get("action_id")]
    for twice in sorted({str(i) for i in ids if ids.count(i) > 1}):
        p.add(f"`action_id` {twice} already exists", f"{at}/elements")


def _actions(p: Problems, at: str, block: Json, _surface: str) -> None:
    _elements(p, at, block, 25, BUTTONS_AND_MENUS)


def _context(p: Problems, at: str, block: Json, _surface: str) -> None:
    _elements(p, at, block, 10, ("image", "mrkdwn", "plain_text"))


def _image(p: Problems, at: str, block: Json, _surface: str) -> None:
    p.fields(at, block, ("alt_text",), ("image_url", "title"))
    p.string(f"{at}/image_url", block.get("image_url"), most=3000, least=1)
    p.string(f"{at}/alt_text", block.get("alt_text"), most=2000)
    if "title" in block:
        p.text(f"{at}/title", block["title"], most=2000, plain=True)


def _input(p: Problems, at: str, block: Json, _surface: str) -> None:
    p.fields(at, block, ("label", "element"), ("hint", "optional", "dispatch_action"))
    p.text(f"{at}/label", block.get("label"), most=2000, plain=True)
    if "hint" in block:
        p.text(f"{at}/hint", block["hint"], most=2000, plain=True)
    check_element(p, f"{at}/element", block.get("element"), INPUTS)


def _markdown(p: Problems, at: str, block: Json, surface: str) -> None:
    p.fields(at, block, ("text",), ())
    if surface != "message":
        p.add("unsupported type: markdown", f"{at}/type")
    p.string(f"{at}/text", block.get("text"), most=12_000, least=1)
    p.count(block.get("text"))


def _table(p: Problems, at: str, block: Json, surface: str) -> None:
    p.fields(at, block, ("rows",), ("column_settings",))
    if surface != "message":
        p.add("unsupported type: table", f"{at}/type")
    for i, row in enumerate(p.items(f"{at}/rows", block.get("rows"), 1, 100)):
        for j, cell in enumerate(p.items(f"{at}/rows/{i}", row, 1, 20)):
            where = f"{at}/rows/{i}/{j}"
            if not isinstance(cell, dict) or cell.get("type") != "raw_text":
                p.add("unsupported type: this workspace draws raw_text cells only", where)
                continue
            p.fields(where, cell, ("text",), ())
            p.string(f"{where}/text", cell.get("text"), most=3000, least=1)
            p.count(cell.get("text"))


BLOCKS: dict[str, Callable[[Problems, str, Json, str], None]] = {
    "section": _section,
    "header": _header,
    "divider": _divider,
    "actions": _actions,
    "context": _context,
    "image": _image,
    "input": _input,
    "markdown": _markdown,
    "table": _table,
}


def problems(blocks: Any, surface: str, *, at: str = "/blocks") -> tuple[list[str], int]:
    """Everything that is wrong with these blocks, and how many characters of text they carry."""
    p = Problems()
    most = MESSAGE_BLOCKS if surface == "message" else VIEW_BLOCKS
    seen: set[str] = set()
    tables = 0
    for i, block in enumerate(p.items(at, blocks, 0, most)):
        where = f"{at}/{i}"
        if not isinstance(block, dict):
            p.add("must be an object", where)
            continue
        kind = block.get("type")
        check = BLOCKS.get(kind) if isinstance(kind, str) else None
        if check is None:
            p.add(f"unsupported type: {kind}", f"{where}/type")
            continue
        check(p, where, block, surface)
        _block_id(p, where, block, seen)
        tables += kind == "table"
    if tables > 1:
        p.add("only_one_table_allowed", at)
    return p.found, p.characters


def _block_id(p: Problems, where: str, block: Json, seen: set[str]) -> None:
    if "block_id" not in block:
        return
    p.string(f"{where}/block_id", block["block_id"], most=255, least=1)
    block_id = str(block["block_id"])
    if block_id in seen:
        p.add(f"`block_id` {block_id} already exists", f"{where}/block_id")
    seen.add(block_id)


def checked_message(blocks: Any) -> list[Json]:
    """The blocks of a message with every missing id filled in; raises ApiError as chat.postMessage would."""
    if not isinstance(blocks, list):
        raise ApiError("invalid_blocks_format")
    found, characters = problems(blocks, "message")
    if found:
        raise ApiError("invalid_blocks", messages=found, errors=found)
    if characters > MESSAGE_TEXT:
        raise ApiError("msg_blocks_too_long")
    return with_ids(blocks)


def with_ids(blocks: list[Json]) -> list[Json]:
    """A copy as Slack returns it: each block and interactive element has an id, each text its `emoji` or `verbatim`."""
    out = []
    for block in blocks:
        named = {"block_id": secrets.token_urlsafe(4), **_with_defaults(block)}
        for place in ("accessory", "element"):
            if place in named:
                named[place] = _named(named[place])
        if named["type"] == "actions":
            named["elements"] = [_named(element) for element in named["elements"]]
        out.append(named)
    return out


def _with_defaults(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_defaults(item) for item in value]
    if not isinstance(value, dict):
        return value
    given = {name: _with_defaults(item) for name, item in value.items()}
    default: Json = {"plain_text": {"emoji": True}, "mrkdwn": {"verbatim": False}}.get(str(value.get("type")), {})
    return {**default, **given}


def _named(element: Json) -> Json:
    return {"action_id": secrets.token_urlsafe(4), **element} if element["type"] in ELEMENTS else element


def elements_of(blocks: list[Json]) -> list[tuple[Json, Json]]:
    """Every interactive element with its block, in order."""
    found: list[tuple[Json, Json]] = []
    for block in blocks:
        inside = [block.get("accessory"), block.get("element")]
        if block["type"] == "actions":
            inside += block["elements"]
        found += [(block, e) for e in inside if isinstance(e, dict) and e.get("type") in ELEMENTS]
    return found


def options_of(element: Json) -> list[Json]:
    """All options of a menu or a group of boxes."""
    options = list(element.get("options", ()))
    for group in element.get("option_groups", ()):
        options += group["options"]
    return options
