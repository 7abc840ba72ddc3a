"""Escapes: every untrusted text passes one of these on its way into Slack. The templates use them as filters.

Slack's markup and its three escapes: https://docs.slack.dev/messaging/formatting-message-text/
All limits are lengths of the escaped result, because that is what Slack counts; a cut never splits an escape.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import accumulate

ELLIPSIS = "…"
NOTHING = "–"
MOST = 6_000
""" Characters of one text that are looked at; nothing that we show is longer. """
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_PLAIN = {"<": "‹", ">": "›"}
_CODE = {**_ESCAPES, "`": "ʼ"}
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_BROADCAST = re.compile(r"@(?=here\b|channel\b|everyone\b)", re.IGNORECASE)
_FENCES = re.compile("`{2,}")
_USER = re.compile(r"[UW][A-Z0-9]{2,30}")
_GROUP = re.compile(r"S[A-Z0-9]{2,30}")
_MENTION = re.compile(r"<(?:@[UW][A-Z0-9]{2,30}|!subteam\^S[A-Z0-9]{2,30})>")
_ESCAPED_USER = re.compile(r"&lt;(@[UW][A-Z0-9]{2,30})&gt;")
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
""" Marks that reorder the text around them: they could make a digest or a target read as another. """
_WORD_JOINER = "\u2060"
""" Invisible; between "@" and "here" it keeps Slack from reading a broadcast. """


def _harmless(character: str) -> bool:
    return character not in _BIDI and unicodedata.category(character) not in {"Cc", "Cs"}


def _legible(text: object, keep: str = "") -> str:
    """Without terminal codes, control characters, direction overrides and broadcasts; bounded."""
    whole = str(text)
    bare = _ANSI.sub("", whole[:MOST] + ELLIPSIS if len(whole) > MOST else whole)
    seen = (c for c in bare if c in keep or _harmless(c))
    return _BROADCAST.sub("@" + _WORD_JOINER, "".join(seen))


def _one_line(text: object) -> str:
    return " ".join(_legible(text, "\n\r\t").split())


def _cut(text: str, limit: int, escapes: dict[str, str]) -> str:
    """Escape as many characters as fit into `limit`; an ellipsis says that there was more."""
    pieces = [escapes.get(character, character) for character in text]
    ends = list(accumulate(map(len, pieces)))
    if not ends or ends[-1] <= limit:
        return "".join(pieces)
    return "".join(pieces[: bisect_right(ends, limit - len(ELLIPSIS))]) + ELLIPSIS


def plain(text: object, limit: int = 150) -> str:
    """One line for a `plain_text` object. Slack parses no markup there; the brackets go all the same. Never empty."""
    return _cut(_one_line(text), limit, _PLAIN) or NOTHING


def mrkdwn(text: object, limit: int = 300) -> str:
    """One line for a `mrkdwn` text or a message's fallback `text`. Code spans stay when they are closed."""
    line = _FENCES.sub("ʼ", _one_line(text))
    cut = _cut(line, limit, _ESCAPES)
    return cut.replace("`", "ʼ") if cut.count("`") % 2 else cut


def code(text: object, limit: int = 200) -> str:
    """A code span of one line, or nothing when there is nothing to show."""
    inner = _cut(_one_line(text), limit - 2, _CODE)
    return f"`{inner}`" if inner else ""


def fence(text: object, limit: int = 2800) -> str:
    """A code block; keeps line breaks and tabs. Nothing when there is nothing to show."""
    inner = _cut(_legible(text, "\n\t").strip("\n"), limit - 8, _CODE)
    return f"```\n{inner}\n```" if inner.strip() else ""


def screen(text: object) -> str:
    """What a program printed, for a `pre` of a page: what a terminal would show, without its codes. The template
    escapes it. A carriage return writes a line anew, as progress bars do. As long as what comes in.
    """
    bare = _ANSI.sub("", str(text))
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in bare.split("\n"))
    return "\n".join("".join(c for c in line if c == "\t" or _harmless(c)) for line in lines)


def is_user(who: str) -> bool:
    """Whether this is the id of a Slack user."""
    return _USER.fullmatch(who) is not None


def mention(who: object) -> str:
    """A Slack mention of a user or a user group (id or ready mention); anything else is shown as text."""
    text = str(who)
    if _MENTION.fullmatch(text):
        return text
    if _USER.fullmatch(text):
        return f"<@{text}>"
    if _GROUP.fullmatch(text):
        return f"<!subteam^{text}>"
    return mrkdwn(text, 80)


def mentions(people: Iterable[object], most: int = 12) -> str:
    """Several mentions, at most `most` of them."""
    everyone = list(people)
    shown = " ".join(mention(who) for who in everyone[:most])
    return f"{shown} and {len(everyone) - most} more" if len(everyone) > most else shown


def with_mentions(text: object, limit: int = 900) -> str:
    """As `mrkdwn`, but mentions of users stay: for private answers whose text is the engine's own ("ask <@U1>")."""
    return _ESCAPED_USER.sub(r"<\1>", mrkdwn(text, limit))


def when(at: datetime) -> str:
    """A moment in the reader's own time zone. https://docs.slack.dev/messaging/formatting-message-text/#date-formatting"""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}}, {{time}}|{utc(at)}>"


def clock(at: datetime) -> str:
    """The time of day in the reader's own time zone, with seconds."""
    return f"<!date^{int(at.timestamp())}^{{time_secs}}|{at.astimezone(UTC):%H:%M:%S} UTC>"


def daytime(at: datetime) -> str:
    """The time of day in the reader's own time zone, to the minute."""
    return f"<!date^{int(at.timestamp())}^{{time}}|{at.astimezone(UTC):%H:%M} UTC>"


def utc(at: datetime) -> str:
    """A moment in UTC, for pages and fallbacks."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def short(digest: str | None) -> str:
    """The first twelve digits of a `sha256:` digest: enough to compare by eye."""
    return _one_line(digest or "").removeprefix("sha256:")[:12]


def fit(lines: Iterable[str], limit: int = 2900, more: str = "… and {} more") -> str:
    """Whole lines, as many as fit; the last line counts the rest. The lines are escaped already."""
    kept: list[str] = []
    everything = list(lines)
    room = limit - len(more) - 8
    for line in everything:
        room -= len(line) + 1
        if room < 0:
            return "\n".join([*kept, more.format(len(everything) - len(kept))])
        kept.append(line)
    return "\n".join(kept)
