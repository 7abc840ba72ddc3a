"""The rule of a harness note, as one line of agents.md. Called by `engine.harness.patch`.

Rule text is an injection path: what a person typed into a modal becomes the context of every later agent. So it is one
line of bounded, visible, plain text without markup or addresses; and a person reviews the patch before it counts.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date

from engine.domain.errors import BadInput

BEGIN = "<!-- harness rules -->"
END = "<!-- end of harness rules -->"
MAX_RULES = 40
MAX_RULE = 300
MAX_TYPED = 20_000
""" Longer text is cut before it is cleaned: no modal holds so much. """

_LINK = re.compile(r"\S*://\S*|\bwww\.\S*|\b(?:mailto|javascript|data|file):\S*", re.IGNORECASE)
_MARKUP = re.compile(r"[`<>\[\]{}*#|~\\]")
_VARIATION = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # invisible, and able to carry hidden text
_NUMBER = re.compile(r"- HN-(\d+):")


def plain(text: str, limit: int) -> str:
    """One line of visible text without markup and links, at most `limit` characters.

    Everything removed leaves a blank, so that no two halves join into what was removed.
    """
    text = unicodedata.normalize("NFKC", text[:MAX_TYPED])
    text = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in text)
    text = _MARKUP.sub(" ", _LINK.sub(" (link removed) ", _VARIATION.sub(" ", text)))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def line(number: int, rule: str, *, incident: int, review_by: date, test: str) -> str:
    """The line; raises BadInput when nothing is left of the rule."""
    text = plain(rule, MAX_RULE)
    if not any(character.isalnum() for character in text):
        raise BadInput("the rule has no words", "write in one sentence what is to be done differently")
    return f"- HN-{number}: {text} (incident INC-{incident}, review by {review_by.isoformat()}, test {test})"


def section(lines: list[str]) -> range:
    """Where the rules stand among the lines of agents.md; raises BadInput unless both markers are there once."""
    found = [[at for at, text in enumerate(lines) if text.strip() == marker] for marker in (BEGIN, END)]
    if [len(places) for places in found] != [1, 1] or found[0][0] > found[1][0]:
        raise BadInput("agents.md has no section of harness rules", f"give it the lines {BEGIN} and {END}, each once")
    return range(found[0][0] + 1, found[1][0])


def numbers(lines: list[str]) -> tuple[int, ...]:
    """The numbers of the rules in these lines."""
    return tuple(int(match[1]) for match in map(_NUMBER.match, lines) if match)
