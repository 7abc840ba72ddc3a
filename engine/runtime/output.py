"""What a command prints, on its way out: decoded, redacted, cut. Nothing unredacted gets past it. Used by session."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from engine.domain.ports import Redactor

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Output:
    """One of stdout and stderr. `limit` counts the command's bytes; what comes after it is dropped."""

    def __init__(self, redactor: Redactor, limit: int, show: Callable[[str], None]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._redacted = redactor.stream()
        self._room = limit
        self._show = show
        self._parts: list[str] = []
        self.truncated = False

    def feed(self, data: bytes) -> None:
        """More bytes of the command."""
        kept, self._room = data[: self._room], self._room - min(len(data), self._room)
        self._add(self._redacted.feed(self._text(kept, final=False)))
        self.truncated = self.truncated or len(kept) < len(data)

    def close(self) -> str:
        """The whole text. Where it was cut, what the redactor still holds is dropped: it may be half of a secret."""
        if not self.truncated:
            self._add(self._redacted.feed(self._text(b"", final=True)))
            self._add(self._redacted.close())
        return "".join(self._parts)

    def _text(self, data: bytes, *, final: bool) -> str:
        return self._decoder.decode(data, final).replace("\0", REPLACEMENT)  # no database keeps a NUL in text

    def _add(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._show(text)


class NoSecrets:
    """The redactor of a VM that was given no secret: the trial boot's."""

    def __call__(self, text: str) -> str:
        return text

    def stream(self) -> NoSecrets:
        return self

    def feed(self, chunk: str) -> str:
        return chunk

    def close(self) -> str:
        return ""
