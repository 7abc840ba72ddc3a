"""What Slack would refuse, refused here first. Called by `bot.views.render` for every message and modal.

Three validators, none enough alone (measured): `slack_sdk.models` knows most lengths, the round
trip through it finds unknown blocks and fields, and the rest is ours.
Limits: https://docs.slack.dev/reference/block-kit/blocks and https://docs.slack.dev/reference/methods/chat.postMessage
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

Json = dict[str, Any]
""" A JSON object: a block or a view. Its shape is what this module checks. """

MAX_TEXT = 3900
""" Fallback text: chat.update refuses more than 4,000 characters (`msg_too_long`). """
MAX_BLOCKS = 50
MAX_TOTAL = 10_000
""" All text of a message together: `msg_blocks_too_long` comes at about 13,200, undocumented. """
MAX_FIELD = 2000
MAX_OPTION_VALUE = 150
MAX_VIEW_BYTES = 250_000


class TooMuch(ValueError):
    """A view that Slack would refuse: a fault of ours. Senders fall back to plain text."""


def _walk(value: object) -> Iterator[Mapping[str, Any]]:
    """Every object inside a JSON value."""
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(inner)


def _ours(blocks: Sequence[Json]) -> Iterator[str]:
    """What slack_sdk does not look at."""
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    if len(set(ids)) < len(ids):
        yield "a block_id occurs twice"
    for block in blocks:
        if any(len(field["text"]) > MAX_FIELD for field in block.get("fields", ())):
            yield f"a section's field is over {MAX_FIELD}"
        if block.get("type") == "actions" and not block.get("elements"):
            yield "an actions block is empty"
        actions = [element.get("action_id") for element in block.get("elements", ()) if "action_id" in element]
        if len(set(actions)) < len(actions):
            yield "an action_id occurs twice in a block"
        for part in _walk(block):
            if len(str(part.get("value", ""))) > MAX_OPTION_VALUE and "text" in part and "type" not in part:
                yield f"an option's value is over {MAX_OPTION_VALUE}"


def _check_blocks(blocks: Sequence[Json]) -> None:
    problems = list(_ours(blocks))
    for block in blocks:
        model = Block.parse(block)
        if model is None:
            problems.append(f"unknown block {block.get('type')!r}")
            continue
        try:
            model.validate_json()
            if model.to_dict() != block:
                problems.append(f"a part of a {block.get('type')} block that slack_sdk does not know")
        except SlackObjectFormationError as error:
            problems.append(f"{block.get('type')}: {error}")
    if problems:
        raise TooMuch("; ".join(sorted(set(problems))))


def total_text(blocks: Sequence[Json]) -> int:
    """Characters of all text in the blocks."""
    return sum(len(part["text"]) for part in _walk(list(blocks)) if isinstance(part.get("text"), str))


def check_message(text: str, blocks: Sequence[Json]) -> None:
    """Raise TooMuch for a message that Slack would refuse."""
    if not text.strip() or len(text) > MAX_TEXT:
        raise TooMuch(f"fallback text of {len(text)} characters")
    if len(blocks) > MAX_BLOCKS:
        raise TooMuch(f"{len(blocks)} blocks")
    if (total := total_text(blocks)) > MAX_TOTAL:
        raise TooMuch(f"{total} characters in all blocks")
    _check_blocks(blocks)


def check_modal(view: Json, encoded: str) -> None:
    """Raise TooMuch for a modal that Slack would refuse; `encoded` is the view as JSON text."""
    if len(encoded.encode()) > MAX_VIEW_BYTES:
        raise TooMuch("view over 250 KB")
    if any(block.get("type") == "input" for block in view["blocks"]) and "submit" not in view:
        raise TooMuch("a modal with inputs needs submit")
    try:
        View(**view).validate_json()
    except SlackObjectFormationError as error:
        raise TooMuch(f"modal: {error}") from None
    _check_blocks(view["blocks"])
