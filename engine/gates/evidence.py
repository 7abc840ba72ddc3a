"""What a sample keeps of what it saw: verbatim, but bounded, and storable in every database. Called by the kinds."""

from __future__ import annotations

import json

from engine.domain.gate import Json

MAX_TEXT = 4096
BRIEF = 60


def text(value: str, limit: int = MAX_TEXT) -> str:
    """The text itself, or its beginning with a note on what is missing. NUL and lone surrogates become U+FFFD."""
    clean = value.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if len(clean) <= limit:
        return clean
    return f"{clean[:limit]}… ({len(clean) - limit} more characters)"


def bounded(value: Json) -> Json:
    """The value itself, or the beginning of its JSON text when it is large or not storable."""
    written = json.dumps(value, ensure_ascii=False)
    storable = len(written) <= MAX_TEXT and written == text(written) and "\\u0000" not in written and _finite(value)
    return value if storable else text(written)


def _finite(value: Json) -> bool:
    """Whether every number is one: 1e999 is read as infinity, which is no JSON and has no digest."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def brief(value: Json) -> str:
    """A value within a sentence."""
    return text(json.dumps(value, ensure_ascii=False), BRIEF)
