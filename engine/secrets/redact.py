"""The redactor: masks every secret value handed out by this process, and whatever looks like a secret.

`engine.secrets.broker` teaches it values; everything that leaves for the database, Slack, a page, a log or a model
passes through it. How text is cut into chunks never changes the result: `Redactor.__call__` is one big chunk.

A character is masked when it lies in an occurrence of a known value (in any encoding of `encodings`), in a hit of
`patterns` on its line, or in a private key. The marker is `‹secret:NAME›`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from engine.domain.errors import Refused
from engine.secrets import encodings, patterns

LONGEST = 64 * 1024
""" Characters. A longer value is refused: its encodings would cost too much to look for. """

_LINE_CAP = 64 * 1024
""" A line without an end is judged in pieces of this many characters ... """
_LINE_TAIL = 8 * 1024
""" ... that overlap by this many, so that no token is cut in two. """
_KEY_CAP = 16 * 1024
""" A BEGIN without END masks this much: a 16,384-bit RSA key is 13 kB. """

_HEAD = encodings.SHORTEST
_NAME = re.compile(r"[^A-Za-z0-9_.-]")

Span = tuple[int, int, str]


class _Vocabulary:
    """All known variants, by their first six characters. Immutable: readers need no lock."""

    def __init__(self, names: Mapping[str, str]) -> None:
        heads: dict[str, list[str]] = {}
        for variant in sorted(names, key=len, reverse=True):
            heads.setdefault(variant[:_HEAD], []).append(variant)
        self.names = MappingProxyType(dict(names))
        self.heads = MappingProxyType({head: tuple(longest_first) for head, longest_first in heads.items()})
        self.starts = frozenset(head[:size] for head in heads for size in range(1, _HEAD))

    def spans(self, text: str, begin: int, *, closed: bool) -> tuple[list[Span], int]:
        """Occurrences that start at `begin` or later, and the offset from which on more text is needed to tell."""
        if not self.heads:
            return [], len(text)
        found: list[Span] = []
        last = len(text) - _HEAD + 1
        for at in [at for at in range(begin, last) if text[at : at + _HEAD] in self.heads]:
            undecided = False
            for variant in self.heads[text[at : at + _HEAD]]:
                if text.startswith(variant, at):
                    found.append((at, at + len(variant), self.names[variant]))
                    break
                undecided |= not closed and len(variant) > len(text) - at and variant.startswith(text[at:])
            if undecided:
                return [span for span in found if span[0] < at], at
        if not closed:
            for at in range(max(begin, last, 0), len(text)):
                if text[at:] in self.starts:
                    return found, at
        return found, len(text)


class Redactor:
    """Masks text. Thread-safe; learns values as they are handed out and never forgets one in its life."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vocabulary = _Vocabulary({})

    def learn(self, name: str, value: str) -> None:
        """Mask `value` from now on as `‹secret:name›`; raises Refused when it is too short or too long to be masked."""
        if not encodings.SHORTEST <= len(value.strip()) <= LONGEST:
            raise Refused(
                f"secret {name!r} has {len(value.strip())} characters and cannot be masked",
                f"use a value of {encodings.SHORTEST} to {LONGEST} characters",
            )
        try:
            variants = encodings.variants(value)
        except UnicodeEncodeError:
            raise Refused(f"secret {name!r} is not valid text", "encode binary secrets as base64") from None
        label = _NAME.sub("_", name)
        with self._lock:
            if value not in self._vocabulary.names:
                self._vocabulary = _Vocabulary({**dict.fromkeys(variants, label), **self._vocabulary.names})

    def __call__(self, text: str) -> str:
        """The text with every secret masked."""
        stream = self.stream()
        return stream.feed(text) + stream.close()

    def stream(self) -> RedactingStream:
        """A masker for text that comes in pieces."""
        return RedactingStream(self)

    @property
    def vocabulary(self) -> _Vocabulary:
        """What is known just now."""
        return self._vocabulary


class RedactingStream:
    """Masks text that arrives in arbitrary chunks. Not thread-safe: one stream, one reader.

    `_text` is what was not emitted yet. `_decided`: before it, all occurrences of known values are in `_spans`.
    `_hidden`: up to here the text is already replaced by a marker of an earlier emission.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._text = ""
        self._decided = 0
        self._hidden = 0
        self._spans: list[Span] = []

    def feed(self, chunk: str) -> str:
        """Take a chunk; returns what is now safe to show (perhaps nothing yet)."""
        self._text += chunk
        return self._advance(closed=False)

    def close(self) -> str:
        """No more will come: returns the rest."""
        return self._advance(closed=True)

    def _advance(self, *, closed: bool) -> str:
        spans, self._decided = self._redactor.vocabulary.spans(self._text, self._decided, closed=closed)
        self._spans += spans
        end, found = 0, []
        for unit_end, unit_spans in self._units(closed=closed):
            if unit_end > self._decided:
                break
            end = unit_end
            found += unit_spans
        return self._emit(end, found)

    def _emit(self, end: int, found: list[Span]) -> str:
        here = sorted(found + [span for span in self._spans if span[0] < end], key=lambda span: (span[0], -span[1]))
        out, at = [], self._hidden
        for start, stop, name in here:
            if start >= at:
                out += [self._text[at:start], f"‹secret:{name}›"]
            at = max(at, stop)
        if at < end:
            out.append(self._text[at:end])
        self._text = self._text[end:]
        self._decided -= end
        self._hidden = max(at - end, 0)
        self._spans = [(start - end, stop - end, name) for start, stop, name in self._spans if start >= end]
        return "".join(out)

    def _units(self, *, closed: bool) -> Iterator[tuple[int, list[Span]]]:
        """Cut the text where its content says so (never where a chunk ended): lines, keys, pieces of endless lines."""
        begin = 0
        while begin < len(self._text):
            unit = self._unit(begin, closed=closed)
            if unit is None:
                return
            yield unit
            begin = unit[0]

    def _unit(self, begin: int, *, closed: bool) -> tuple[int, list[Span]] | None:
        text = self._text
        newline = text.find("\n", begin, begin + _LINE_CAP)
        endless = newline < 0 and len(text) - begin >= _LINE_CAP
        if newline < 0 and not endless and not closed:
            return None
        end = newline + 1 if newline >= 0 else min(len(text), begin + _LINE_CAP)
        if key := patterns.KEY_BEGIN.search(text, begin, end):
            stop = self._key_end(key, closed=closed)
            return None if stop is None else (stop, [*_hits(text, begin, key.start()), (key.start(), stop, "key")])
        hits = list(patterns.search(text[begin:end]))
        if endless:
            end = begin + _cut(hits)
        return end, [span for span in _shift(hits, begin) if span[0] < end]

    def _key_end(self, key: re.Match[str], *, closed: bool) -> int | None:
        limit = key.start() + _KEY_CAP
        if found := patterns.KEY_END.search(self._text, key.end(), limit):
            return found.end()
        return min(limit, len(self._text)) if closed or len(self._text) >= limit else None


def _shift(hits: Iterable[patterns.Found], by: int) -> Iterator[Span]:
    return ((hit.start + by, hit.end + by, hit.name) for hit in hits)


def _hits(text: str, begin: int, end: int) -> Iterator[Span]:
    return _shift(patterns.search(text[begin:end]), begin)


def _cut(hits: list[patterns.Found]) -> int:
    """Where to end a piece of an endless line: before a hit that crosses the cut, so that it is judged whole."""
    cut = _LINE_CAP - _LINE_TAIL
    crossing = [hit for hit in hits if hit.whole_start < cut < hit.end]
    first = min((hit.whole_start for hit in crossing), default=cut)
    return first or max(hit.end for hit in crossing)
