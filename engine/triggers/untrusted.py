"""Text of a stranger, made bounded and printable: what every parser of this room does to the fields of an alert.

Nothing here escapes for a destination (Slack, HTML, a prompt): that is done where the text goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from engine.domain.alert import Severity

MAX_FIELDS = 64
""" Labels, and annotations, kept of one alert. """
MAX_NAME = 200
MAX_VALUE = 4096
MAX_TITLE = 300
MAX_LINK = 2048

_LINE_ENDS = re.compile(r"\r\n?")
# Control characters (a NUL is refused by Postgres, an escape sequence steers a terminal), lone surrogates (they cannot
# be encoded) and the marks that turn the direction of text (they make a line read as what it is not).
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What ends a link or opens markup in Slack, HTML or Markdown has no business inside an address.
_NOT_IN_A_LINK = re.compile(r"[\s<>|\"'`\\\x00-\x20\x7f]")

_SPELLINGS = {
    Severity.CRITICAL: "critical crit fatal disaster emergency emerg alert page p1 p0 sev0 blocker",
    Severity.HIGH: "high error err major p2 sev1",
    Severity.WARNING: "warning warn medium moderate average minor ticket p3 sev2",
    Severity.INFO: "info information informational notice low none debug verbose p4 p5 sev3 sev4",
}
_SEVERITIES = {word: severity for severity, words in _SPELLINGS.items() for word in words.split()}


def clean(text: str) -> str:
    """The text with line ends made one kind and every unprintable character replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", _LINE_ENDS.sub("\n", text))


def cut(text: str, limit: int) -> str:
    """At most `limit` characters; what was cut ends in an ellipsis, so that it is not taken for the whole."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int = MAX_TITLE) -> str:
    """Clean text on one line, without runs of blanks, at most `limit` characters."""
    return cut(" ".join(clean(text).split()), limit)


def bounded(fields: Mapping[str, str], first: Iterable[str] = ()) -> tuple[dict[str, str], tuple[str, ...]]:
    """Clean and cut the fields; returns them and, for a person, what was cut.

    When there are too many, those named in `first` stay, then the rest by name: the same input gives the same fields.
    """
    wanted = [name for name in first if name in fields]
    names = (wanted + sorted(fields.keys() - set(wanted)))[:MAX_FIELDS]
    kept = {one_line(name, MAX_NAME): cut(clean(fields[name]), MAX_VALUE) for name in names}
    remarks = [f"{len(fields) - len(names)} more left out"] if len(fields) > len(names) else []
    remarks += [f"{one_line(name, 40)} cut" for name in names if len(fields[name]) > MAX_VALUE]
    return kept, tuple(remarks)


def severity(word: str) -> Severity:
    """What a sender's word for bad means here; a word that nobody knows is UNKNOWN, never a guess."""
    return _SEVERITIES.get(word.strip().lower(), Severity.UNKNOWN)


def link(candidates: Iterable[str]) -> str | None:
    """The first candidate that is a plain http(s) address; a longer one is left out, for a cut one leads elsewhere."""
    return next((text for text in map(str.strip, candidates) if _is_plain(text)), None)


def _is_plain(text: str) -> bool:
    if len(text) > MAX_LINK or _NOT_IN_A_LINK.search(text) or _UNPRINTABLE.search(text):
        return False
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:  # an address in broken brackets
        return False
    # user:password@ hides where a link leads, and is a secret
    return parts.scheme in {"http", "https"} and bool(host) and "@" not in parts.netloc
