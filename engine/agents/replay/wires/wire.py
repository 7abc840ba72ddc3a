"""What one vendor's format does for the server: requests in, answers out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.agents.replay.conversation import Request, Turn
from engine.domain.errors import BadInput
from engine.domain.gate import Json

CHUNK = 24
""" Characters of one delta of a streamed answer: small, so that clients really have to put them together. """


class Wire(Protocol):
    """A format. `path` is where its requests are sent to."""

    path: str

    def read(self, body: bytes) -> Request:
        """Raises BadInput: not a request in this format, or one with more than text and tool calls."""

    def told(self, turn: Turn, request: Request) -> Json:
        """The answer in one piece."""

    def events(self, turn: Turn, request: Request) -> Iterator[bytes]:
        """The answer as server-sent events."""

    def error(self, status: int, message: str) -> Json:
        """An error as this vendor's clients read it."""

    def heard(self, body: bytes) -> Turn:
        """What a live model's answer (in one piece) says. Raises BadInput."""

    def alone(self, body: bytes) -> bytes:
        """The request as it is passed on to a live model: in one piece, and without what a tape cannot keep."""

    def bearing(self, key: str) -> Mapping[str, str]:
        """The headers of a request with this key."""


class Incoming(BaseModel):
    """A part of a request or an answer. What we do not read we do not mind."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


Part = TypeVar("Part", bound=Incoming)


def parsed(kind: type[Part], body: bytes) -> Part:
    """Raises BadInput with the first thing that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{where}: {first['msg']}" if where else first["msg"]) from error


def arguments(text: str) -> Mapping[str, Json]:
    """What a model wrote as the arguments of a call. Raises BadInput."""
    try:
        args = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise BadInput("the arguments of a call are not JSON") from error
    if not isinstance(args, dict):
        raise BadInput("the arguments of a call are no object")
    return args


def answer_id(prefix: str, request: Request) -> str:
    """The same request has the same answer, its id included."""
    return prefix + hashlib.sha256(request.body).hexdigest()[:24]


def compact(value: Json) -> str:
    """JSON of one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def pieces(text: str) -> Iterator[str]:
    """A text in the deltas it is streamed in."""
    for start in range(0, len(text), CHUNK):
        yield text[start : start + CHUNK]


def event(data: Json, name: str = "") -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {compact(data)}\n\n".encode()
