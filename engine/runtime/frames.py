"""Frames from a guest, parsed without trust. Used by the channel.

The format and its constants are the guest's own (`engine.runtime.guest.wire`), so that there is one definition.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.runtime.guest.wire import HEADER, WINDOW, Kind

__all__ = ["WINDOW", "BrokenProtocol", "Frame", "Kind", "Parser", "encode", "json_object", "text_of"]

MAX_FRAME = WINDOW
MAX_JSON = 64 * 1024  # it is parsed on libvirt's one thread, on which every other VM's bytes come too
MAX_TEXT = 500


class BrokenProtocol(Exception):
    """The guest said something that its agent never says. The task ends with this reason."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `kind` is a plain number: an unknown one is ignored by whoever gets it."""

    kind: int
    stream: int
    payload: bytes


def encode(kind: Kind, stream: int, payload: bytes | dict[str, Any] = b"") -> bytes:
    """The bytes of a frame; a dict travels as JSON."""
    data = json.dumps(payload).encode() if isinstance(payload, dict) else payload
    return HEADER.pack(kind, stream, len(data)) + data


def json_object(payload: bytes) -> dict[str, Any]:
    """The JSON object of a frame; raises BrokenProtocol for anything else."""
    if len(payload) > MAX_JSON:
        raise BrokenProtocol(f"the guest sent {len(payload)} bytes of JSON")
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise BrokenProtocol("the guest sent a frame that is not JSON") from None
    if not isinstance(value, dict):
        raise BrokenProtocol("the guest sent JSON that is not an object")
    return value


def text_of(value: object) -> str:
    """What a guest says in words, as one can keep it: cut, without NUL and half characters, which no database takes."""
    return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


class Parser:
    """Cuts a byte stream into frames. It never holds more than one frame of at most MAX_FRAME bytes and one chunk."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; raises BrokenProtocol for one that is too long."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= HEADER.size:
                kind, stream, length = HEADER.unpack_from(self._buffer, start)
                if length > MAX_FRAME:
                    raise BrokenProtocol(f"the guest announced a frame of {length} bytes")
                end = start + HEADER.size + length
                if len(self._buffer) < end:
                    return
                payload = bytes(self._buffer[start + HEADER.size : end])
                start = end
                yield Frame(kind, stream, payload)
        finally:
            del self._buffer[:start]
