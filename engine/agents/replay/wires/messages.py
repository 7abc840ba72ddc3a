"""Anthropic's messages: /v1/messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from engine.agents.replay.conversation import Answered, Call, Request, Turn, UserSaid
from engine.agents.replay.wires.wire import Incoming, answer_id, compact, event, parsed, pieces
from engine.domain.gate import Json

VERSION = "2023-06-01"
_KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 413: "request_too_large",
          429: "rate_limit_error", 529: "overloaded_error"}  # fmt: skip


class _Text(Incoming):
    type: Literal["text"]
    text: str


class _Thinking(Incoming):
    type: Literal["thinking", "redacted_thinking"]


class _Use(Incoming):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, object]


class _Result(Incoming):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[_Text] = ""


_Block = Annotated[_Text | _Use | _Result | _Thinking, Field(discriminator="type")]


class _Message(Incoming):
    role: Literal["user", "assistant"]
    content: str | list[_Block]


class _Named(Incoming):
    name: str


class _Request(Incoming):
    model: str
    max_tokens: int = Field(gt=0)
    messages: list[_Message] = Field(min_length=1)
    system: str | list[_Text] = ""
    tools: tuple[_Named, ...] = ()
    stream: bool = False


class _Usage(Incoming):
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Answer(Incoming):
    content: list[_Block]
    stop_reason: str | None
    usage: _Usage


class Messages:
    """The format of Anthropic's messages."""

    path = "/v1/messages"

    def read(self, body: bytes) -> Request:
        """Text blocks of one message are one text."""
        asked = parsed(_Request, body)
        return Request(
            model=asked.model,
            instructions=_text(asked.system),
            history=tuple(entry for message in asked.messages for entry in _entries(message)),
            tools=tuple(tool.name for tool in asked.tools),
            stream=asked.stream,
            body=body,
        )

    def told(self, turn: Turn, request: Request) -> Json:
        """A message."""
        blocks: list[Json] = [{"type": "text", "text": turn.text}] if turn.text else []
        return _message(
            request,
            content=[*blocks, *(_used(call, dict(call.args)) for call in turn.calls)],
            stop=_stop(turn),
            tokens=(turn.input_tokens, turn.output_tokens),
        )

    def events(self, turn: Turn, request: Request) -> Iterator[bytes]:
        """message_start, the blocks with their deltas, message_delta with the stop reason and usage, message_stop."""
        yield _event("message_start", message=_message(request, [], None, (turn.input_tokens, 1)))
        yield _event("ping")
        blocks: list[tuple[Json, list[Json]]] = []
        if turn.text:
            texts: list[Json] = [{"type": "text_delta", "text": piece} for piece in pieces(turn.text)]
            blocks.append(({"type": "text", "text": ""}, texts))
        for call in turn.calls:
            parts = pieces(compact(dict(call.args)))
            inputs: list[Json] = [{"type": "input_json_delta", "partial_json": part} for part in parts]
            blocks.append((_used(call, {}), inputs))
        for index, (block, deltas) in enumerate(blocks):
            yield _event("content_block_start", index=index, content_block=block)
            for delta in deltas:
                yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        stopped: Json = {"stop_reason": _stop(turn), "stop_sequence": None}
        yield _event("message_delta", delta=stopped, usage={"output_tokens": turn.output_tokens})
        yield _event("message_stop")

    def error(self, status: int, message: str) -> Json:
        """An error as Anthropic tells it."""
        kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}

    def heard(self, body: bytes) -> Turn:
        """What Claude said; what it thought is left out."""
        answer = parsed(_Answer, body)
        usage = answer.usage
        cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
        return Turn(
            text="".join(block.text for block in answer.content if isinstance(block, _Text)),
            calls=_calls(answer.content),
            input_tokens=usage.input_tokens + cached,
            output_tokens=usage.output_tokens,
            cut=answer.stop_reason == "max_tokens",
        )

    def alone(self, body: bytes) -> bytes:
        """Without thinking: it would have to be sent back, signed, with the next request."""
        asked = json.loads(body)
        return compact({key: asked[key] for key in asked if key not in {"stream", "thinking"}}).encode()

    def bearing(self, key: str) -> Mapping[str, str]:
        """The key, and the version of the format."""
        return {"x-api-key": key, "anthropic-version": VERSION}


def _entries(message: _Message) -> Iterator[UserSaid | Answered | Turn]:
    blocks = [_Text(type="text", text=message.content)] if isinstance(message.content, str) else message.content
    text = _text([block for block in blocks if isinstance(block, _Text)])
    if message.role == "assistant":
        yield Turn(text=text, calls=_calls(blocks))
        return
    for block in blocks:
        if isinstance(block, _Result):
            yield Answered(block.tool_use_id, _text(block.content))
    if text:
        yield UserSaid(text)


def _calls(blocks: Sequence[_Text | _Use | _Result | _Thinking]) -> tuple[Call, ...]:
    return tuple(Call(block.name, _json(block.input), block.id) for block in blocks if isinstance(block, _Use))


def _json(value: dict[str, object]) -> dict[str, Json]:
    return value  # type: ignore[return-value] # it was JSON a moment ago


def _text(content: str | Sequence[_Text]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _used(call: Call, args: dict[str, Json]) -> Json:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": args}


def _stop(turn: Turn) -> str:
    if turn.cut:
        return "max_tokens"
    return "tool_use" if turn.calls else "end_turn"


def _message(request: Request, content: list[Json], stop: str | None, tokens: tuple[int, int]) -> Json:
    return {
        "id": answer_id("msg_", request),
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": tokens[0], "output_tokens": tokens[1]},
    }


def _event(kind: str, **data: Json) -> bytes:
    return event({"type": kind, **data}, kind)
