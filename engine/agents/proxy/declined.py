"""A request that is not passed on, or not as it came. Used within `engine.agents.proxy`."""

from __future__ import annotations

MAX_TEXT = 160


class Declined(Exception):
    """What the client is told instead of an answer. `status`: of HTTP; str(error): one short line."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(plain(why))
        self.status = status


def plain(text: object) -> str:
    """One short line for a transcript: a client's own words may stand in it."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(text)[: MAX_TEXT + 1])
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"
