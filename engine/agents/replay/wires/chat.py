"""OpenAI's chat completions: /v1/chat/completions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from engine.agents.replay.conversation import Answered, Call, Request, Turn, UserSaid
from engine.agents.replay.wires.wire import Incoming, answer_id, arguments, compact, event, parsed, pieces
from engine.domain.gate import Json

_DONE = b"data: [DONE]\n\n"


class _Part(Incoming):
    type: Literal["text"]
    text: str


class _Function(Incoming):
    name: str
    arguments: str


class _Use(Incoming):
    id: str
    type: Literal["function"] = "function"
    function: _Function


class _Instructions(Incoming):
    role: Literal["system", "developer"]
    content: str | list[_Part]


class _User(Incoming):
    role: Literal["user"]
    content: str | list[_Part]


class _Assistant(Incoming):
    role: Literal["assistant"]
    content: str | list[_Part] | None = None
    tool_calls: list[_Use] | None = None


class _Tool(Incoming):
    role: Literal["tool"]
    tool_call_id: str
    content: str | list[_Part]


_Message = Annotated[_Instructions | _User | _Assistant | _Tool, Field(discriminator="role")]


class _Named(Incoming):
    name: str


class _Offered(Incoming):
    function: _Named


class _Options(Incoming):
    include_usage: bool = False


class _Request(Incoming):
    model: str
    messages: list[_Message] = Field(min_length=1)
    tools: tuple[_Offered, ...] = ()
    stream: bool | None = False
    stream_options: _Options | None = None


class _Usage(Incoming):
    prompt_tokens: int
    completion_tokens: int


class _Choice(Incoming):
    message: _Assistant
    finish_reason: str


class _Answer(Incoming):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage


class Chat:
    """The format of OpenAI's chat completions, which most local models speak too."""

    path = "/v1/chat/completions"

    def read(self, body: bytes) -> Request:
        """Instructions are the system's and the developer's messages."""
        asked = parsed(_Request, body)
        told = [_text(message.content) for message in asked.messages if isinstance(message, _Instructions)]
        return Request(
            model=asked.model,
            instructions="\n\n".join(told),
            history=tuple(_entry(message) for message in asked.messages if not isinstance(message, _Instructions)),
            tools=tuple(tool.function.name for tool in asked.tools),
            stream=bool(asked.stream),
            body=body,
            counted=asked.stream_options is not None and asked.stream_options.include_usage,
        )

    def told(self, turn: Turn, request: Request) -> Json:
        """A completion."""
        message: dict[str, Json] = {"role": "assistant", "content": turn.text or None, "refusal": None}
        if turn.calls:
            message["tool_calls"] = [_used(call, compact(dict(call.args))) for call in turn.calls]
        choice: Json = {"index": 0, "message": message, "finish_reason": _finish(turn), "logprobs": None}
        return {**_head("chat.completion", request), "choices": [choice], "usage": _usage(turn)}

    def events(self, turn: Turn, request: Request) -> Iterator[bytes]:
        """Chunks with deltas, the last but one with the reason it ended, then usage if it was asked for."""
        head = _head("chat.completion.chunk", request)

        def chunk(delta: dict[str, Json], finish: str | None = None) -> bytes:
            choice: Json = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            return event({**head, "choices": [choice]})

        yield chunk({"role": "assistant", "content": "" if turn.text else None})
        for piece in pieces(turn.text):
            yield chunk({"content": piece})
        for index, call in enumerate(turn.calls):
            yield chunk({"tool_calls": [{"index": index, **_used(call, "")}]})
            for piece in pieces(compact(dict(call.args))):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield chunk({}, _finish(turn))
        if request.counted:
            yield event({**head, "choices": [], "usage": _usage(turn)})
        yield _DONE

    def error(self, status: int, message: str) -> Json:
        """An error as OpenAI tells it."""
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    def heard(self, body: bytes) -> Turn:
        """The first choice."""
        answer = parsed(_Answer, body)
        choice = answer.choices[0]
        return Turn(
            text=_text(choice.message.content or ""),
            calls=_calls(choice.message),
            input_tokens=answer.usage.prompt_tokens,
            output_tokens=answer.usage.completion_tokens,
            cut=choice.finish_reason == "length",
        )

    def alone(self, body: bytes) -> bytes:
        """The request without its wish for a stream."""
        asked = json.loads(body)
        return compact({key: asked[key] for key in asked if key not in {"stream", "stream_options"}}).encode()

    def bearing(self, key: str) -> Mapping[str, str]:
        """The key."""
        return {"Authorization": f"Bearer {key}"}


def _entry(message: _User | _Assistant | _Tool) -> UserSaid | Answered | Turn:
    if isinstance(message, _Assistant):
        return Turn(text=_text(message.content or ""), calls=_calls(message))
    if isinstance(message, _Tool):
        return Answered(message.tool_call_id, _text(message.content))
    return UserSaid(_text(message.content))


def _calls(message: _Assistant) -> tuple[Call, ...]:
    uses = message.tool_calls or ()
    return tuple(Call(use.function.name, arguments(use.function.arguments), use.id) for use in uses)


def _text(content: str | Sequence[_Part]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _used(call: Call, args: str) -> dict[str, Json]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": args}}


def _finish(turn: Turn) -> str:
    if turn.cut:
        return "length"
    return "tool_calls" if turn.calls else "stop"


def _head(kind: str, request: Request) -> dict[str, Json]:
    return {"id": answer_id("chatcmpl-", request), "object": kind, "created": 0, "model": request.model}


def _usage(turn: Turn) -> Json:
    return {
        "prompt_tokens": turn.input_tokens,
        "completion_tokens": turn.output_tokens,
        "total_tokens": turn.input_tokens + turn.output_tokens,
    }
