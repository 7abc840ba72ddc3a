"""What an answer cost, by the provider's own count, whole or as a stream of events, in each wire format."""

from __future__ import annotations

import json
from dataclasses import dataclass

from engine.agents.models import Price
from engine.domain.agent import Api, Usage
from engine.domain.gate import Json

MAX_EVENT = 8 << 20
""" `response.completed` repeats the whole answer. """
MAX_COUNT = 10**9
CACHE_WRITE = 2
""" Times the price of input: the dearest that Anthropic asks. Reading from a cache is counted at the full price. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Tokens as the provider told them; None: not told. `written`: to its cache, beside `tokens_in`."""

    tokens_in: int | None = None
    written: int = 0
    tokens_out: int | None = None


class Meter:
    """Reads usage off an answer's bytes as they pass. `streams`: server-sent events, else one JSON object."""

    def __init__(self, api: Api, *, streams: bool) -> None:
        self._api, self._streams = api, streams
        self._rest = b""
        self._skipping = False
        self.size = 0
        self.counted = Counted()

    def feed(self, chunk: bytes) -> None:
        """The next bytes."""
        self.size += len(chunk)
        self._rest += chunk
        if self._streams:
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                self._line(line)
        if len(self._rest) > MAX_EVENT:
            self._rest, self._skipping = b"", True

    def end(self) -> None:
        """There is no more."""
        if self._streams:
            self._line(self._rest)
        elif not self._skipping:
            self._note(_object(self._rest))
        self._rest = b""

    def _line(self, line: bytes) -> None:
        if self._skipping:  # the end of a line that was too long
            self._skipping = False
        elif line.startswith(b"data:") and b'"usage"' in line:
            event = _object(line.removeprefix(b"data:"))
            match self._api, event.get("type"):
                case Api.ANTHROPIC, "message_start":
                    event = _member(event, "message")
                case Api.OPENAI_RESPONSES, _:
                    event = _member(event, "response")
            self._note(event)

    def _note(self, answer: dict[str, Json]) -> None:
        """Later counts are sums: Anthropic tells the input at the begin, the output at the end."""
        usage = _member(answer, "usage")
        before = self.counted
        match self._api:
            case Api.ANTHROPIC:
                read = _number(usage, "input_tokens"), _number(usage, "cache_read_input_tokens")
                tokens_in = None if read[0] is None else read[0] + (read[1] or 0)
                written, out = _number(usage, "cache_creation_input_tokens"), _number(usage, "output_tokens")
                if answer.get("type") == "message" and self._streams:
                    out = None  # of message_start: what was said up to then
            case Api.OPENAI:
                tokens_in, written = _number(usage, "prompt_tokens"), None
                out = _number(usage, "completion_tokens")
            case Api.OPENAI_RESPONSES:
                tokens_in, written = _number(usage, "input_tokens"), None
                out = _number(usage, "output_tokens")
        self.counted = Counted(
            tokens_in=_later(before.tokens_in, tokens_in),
            written=max(before.written, written or 0),
            tokens_out=_later(before.tokens_out, out),
        )


def _later(before: int | None, now: int | None) -> int | None:
    return before if now is None else max(before or 0, now)


def _object(data: bytes) -> dict[str, Json]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _member(of: dict[str, Json], name: str) -> dict[str, Json]:
    value = of.get(name)
    return value if isinstance(value, dict) else {}


def _number(usage: dict[str, Json], name: str) -> int | None:
    value = usage.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    return min(value, MAX_COUNT)


def cost(counted: Counted, price: Price | None) -> Usage:
    """Tokens and money of one answer, beside its request."""
    tokens_in, out = counted.tokens_in or 0, counted.tokens_out or 0
    paid_in = tokens_in + CACHE_WRITE * counted.written
    return Usage(
        tokens=tokens_in + counted.written + out,
        microdollars=0 if price is None else price.of(tokens_in=paid_in, tokens_out=out),
    )
