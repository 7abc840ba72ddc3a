"""Template in, checked view out. `bot.views.messages`, `.modals` and `.pages` are the callers.

JSON templates have no autoescape (HTML escapes would corrupt JSON): every `{{ }}` in them ends in `tojson`, and a test
reads the templates for that. Unknown names are errors, not empty strings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bot.views import advice, escape, marks, story, transcript
from bot.views.limits import MAX_TEXT, Json, check_message, check_modal

HERE = Path(__file__).parent

_slack = Environment(
    loader=FileSystemLoader(HERE / "slack"),
    undefined=StrictUndefined,
    auto_reload=False,  # a template that changes under a running process would not fit its code
    autoescape=False,  # noqa: S701  JSON, not HTML; every value passes tojson, and a test proves it
    trim_blocks=True,
    lstrip_blocks=True,
)
_slack.filters.update(
    plain=escape.plain,
    mrkdwn=escape.mrkdwn,
    code=escape.code,
    fence=escape.fence,
    mention=escape.mention,
    mentions=escape.mentions,
    when=escape.when,
    clock=escape.clock,
    daytime=escape.daytime,
    short=escape.short,
    fit=escape.fit,
    emoji=marks.emoji,
)
_slack.globals.update(story=story, advice=advice, transcript=transcript)

_pages = Environment(
    loader=FileSystemLoader(HERE / "pages"),
    undefined=StrictUndefined,
    auto_reload=False,  # a template that changes under a running process would not fit its code
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_pages.filters.update(screen=escape.screen, utc=escape.utc, short=escape.short, sign=marks.sign, pretty=story.pretty)
_pages.globals.update(story=story, advice=advice)


@dataclass(frozen=True, slots=True)
class Message:
    """A Slack message: `text` is what notifications and screen readers get, and all there is when blocks fail."""

    text: str
    blocks: Sequence[Json]

    def plainly(self) -> Message:
        """The same without blocks: for when Slack refuses them."""
        return Message(self.text, ())


def message(template: str, **values: Any) -> Message:
    """Render a message; raises TooMuch when Slack would refuse it."""
    parsed = json.loads(_slack.get_template(template).render(**values))
    made = Message(parsed["text"][:MAX_TEXT], parsed["blocks"])
    check_message(made.text, made.blocks)
    return made


def modal(template: str, **values: Any) -> Json:
    """Render a modal; raises TooMuch when Slack would refuse it."""
    text = _slack.get_template(template).render(**values)
    view: Json = json.loads(text)
    check_modal(view, json.dumps(view))
    return view


def page(template: str, **values: Any) -> str:
    """Render an HTML page."""
    return _pages.get_template(template).render(**values)
