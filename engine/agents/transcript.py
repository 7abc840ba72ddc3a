"""What people read of an agent's work: plain text, one block a move, redacted, nothing hidden in it.

What begins a line is ours: `agent: `, `> `, `! `; whatever a model or a command says is indented further.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from engine.agents.prompt import bounded
from engine.domain.agent import Tool, ToolCall
from engine.domain.gate import Json
from engine.domain.ports import Redactor

SAID, CALL, ANSWER = 4000, 1000, 600
""" Characters of a block. """


class Transcript:
    """Writes the blocks as they come. `on_output`: where the attempt's log is written."""

    def __init__(self, redactor: Redactor, on_output: Callable[[str], None]) -> None:
        self._redactor, self._on_output = redactor, on_output

    def note(self, text: str) -> None:
        """What we have to say about it."""
        self._block("", text, SAID)

    def said(self, text: str) -> None:
        """What the model said; nothing when it said nothing."""
        if text.strip():
            self._block("agent: ", text.strip(), SAID)

    def call(self, call: ToolCall) -> None:
        """What it asks for."""
        self._block("> ", _words(call), CALL)

    def does(self, text: str) -> None:
        """What a coding CLI says that it does."""
        self._block("> ", text, CALL)

    def answer(self, text: str) -> None:
        """How the answer to it begins."""
        self._block("  ", text.rstrip(), ANSWER)

    def refused(self, why: str) -> None:
        """Why it was not made."""
        self._block("! refused: ", why, ANSWER)

    def _block(self, head: str, text: str, limit: int) -> None:
        shown = bounded(self._redactor(text), limit)
        indent = "\n" + " " * len(head)
        self._on_output(head + shown.replace("\n", indent) + "\n")


def _words(call: ToolCall) -> str:
    argv = call.args.get("argv")
    if call.tool is Tool.RUN and isinstance(argv, list):
        where = call.args.get("on", "vm")
        return f"run on {where}: " + " ".join(map(_word, argv))
    return f"{call.tool} " + json.dumps(dict(call.args), ensure_ascii=False)


def _word(word: Json) -> str:
    plain = isinstance(word, str) and word.isprintable() and bool(word) and not set(word) & set(" \"'\\")
    return str(word) if plain else json.dumps(word)
