"""Patterns over lines of text. Called by the kind `log`.

They are matched by the engine of CEL, whose regular expressions take linear time and have no look-around or back
references (those of RE2): neither a pattern nor a line can make one compute for long, as Python's own would.
https://docs.rs/regex/latest/regex/#untrusted-input
"""

from __future__ import annotations

from collections.abc import Sequence

import cel

MAX_PATTERN = 200
MAX_LINES = 5000
MAX_LINE = 4096


def matching(pattern: str, lines: Sequence[str]) -> tuple[str, ...]:
    """The lines in which the pattern is found; raises ValueError for a bad pattern or too much text."""
    if not 0 < len(pattern) <= MAX_PATTERN:
        raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters")
    if len(lines) > MAX_LINES:
        raise ValueError(f"more than {MAX_LINES} lines")
    if any(len(line) > MAX_LINE for line in lines):
        raise ValueError(f"a line of more than {MAX_LINE} characters")
    try:
        found = cel.evaluate("lines.filter(line, line.matches(pattern))", {"lines": list(lines), "pattern": pattern})
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{pattern!r} is no pattern: {_last(str(error))}") from None
    if not isinstance(found, list):
        raise ValueError("the pattern gave no lines")
    return tuple(found)


def _last(message: str) -> str:
    """The regex engine draws where the fault is, over several lines, and CEL adds advice; what it is stands between."""
    marked = [line for line in message.splitlines() if line.startswith("error: ")]
    return (marked or message.splitlines())[0].removeprefix("error: ").split(". Check function")[0][:160]
