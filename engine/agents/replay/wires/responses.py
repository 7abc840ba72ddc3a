"""OpenAI's responses: /v1/responses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Discriminator
from pydantic import Tag as Kind

from engine.agents.replay.conversation import Answered, Call, Request, Turn, UserSaid
from engine.agents.replay.wires.chat import Chat
from engine.agents.replay.wires.wire import Incoming, answer_id, arguments, compact, event, parsed, pieces
from engine.domain.errors import BadInput
from engine.domain.gate import Json


class _Part(Incoming):
    type: Literal["input_text", "output_text", "text"]
    text: str


class _Message(Incoming):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[_Part]


class _Use(Incoming):
    call_id: str
    name: str
    arguments: str


class _Result(Incoming):
    call_id: str
    output: str | list[_Part]


class _Reasoning(Incoming):
    """Not read."""


def _kind(item: object) -> str | None:
    """A message may come without its type."""
    return item.get("type", "message") if isinstance(item, dict) else None


_Item = Annotated[
    Annotated[_Message, Kind("message")]
    | Annotated[_Use, Kind("function_call")]
    | Annotated[_Result, Kind("function_call_output")]
    | Annotated[_Reasoning, Kind("reasoning")],
    Discriminator(_kind),
]


class _Offered(Incoming):
    name: str = ""


class _Request(Incoming):
    model: str
    input: str | list[_Item]
    instructions: str | None = None
    tools: tuple[_Offered, ...] = ()
    stream: bool | None = False
    previous_response_id: str | None = None


class _Usage(Incoming):
    input_tokens: int
    output_tokens: int


class _Cut(Incoming):
    reason: str | None = None


class _Answer(Incoming):
    output: list[_Item]
    usage: _Usage
    incomplete_details: _Cut | None = None


class Responses:
    """The format of OpenAI's responses."""

    path = "/v1/responses"

    def read(self, body: bytes) -> Request:
        """Items of the assistant that stand together are one turn of it."""
        asked = parsed(_Request, body)
        if asked.previous_response_id is not None:
            raise BadInput("previous_response_id: this server keeps no conversations; send the whole of it as input")
        items = [_Message(role="user", content=asked.input)] if isinstance(asked.input, str) else asked.input
        told = [_text(item.content) for item in items if isinstance(item, _Message) and _instructs(item)]
        return Request(
            model=asked.model,
            instructions="\n\n".join([asked.instructions or "", *told]).strip(),
            history=tuple(_entries(items)),
            tools=tuple(tool.name for tool in asked.tools if tool.name),
            stream=bool(asked.stream),
            body=body,
        )

    def told(self, turn: Turn, request: Request) -> Json:
        """A response."""
        output = [_said(request, turn.text)] if turn.text else []
        output += [_used(request, place, call, compact(dict(call.args))) for place, call in enumerate(turn.calls)]
        return {
            **_head(request),
            "status": "incomplete" if turn.cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if turn.cut else None,
            "output": [*output],
            "usage": _usage(turn),
        }

    def events(self, turn: Turn, request: Request) -> Iterator[bytes]:
        """response.created, the items with their deltas, response.completed (or .incomplete) with the whole of it."""
        started: Json = {**_head(request), "status": "in_progress", "output": [], "usage": None}
        moves = itertools.chain(
            [("response.created", {"response": started}), ("response.in_progress", {"response": started})],
            self._items(turn, request),
            [(f"response.{'incomplete' if turn.cut else 'completed'}", {"response": self.told(turn, request)})],
        )
        for number, (kind, data) in enumerate(moves):
            yield event({"type": kind, "sequence_number": number, **data}, kind)

    def _items(self, turn: Turn, request: Request) -> Iterator[tuple[str, dict[str, Json]]]:
        if turn.text:
            yield from _spoken(request, turn.text)
        for index, call in enumerate(turn.calls, start=1 if turn.text else 0):
            place = index - (1 if turn.text else 0)
            args = compact(dict(call.args))
            done = _used(request, place, call, args)
            at: dict[str, Json] = {"item_id": done["id"], "output_index": index}
            begun: Json = {**done, "arguments": "", "status": "in_progress"}
            yield "response.output_item.added", {"output_index": index, "item": begun}
            for piece in pieces(args):
                yield "response.function_call_arguments.delta", {**at, "delta": piece}
            yield "response.function_call_arguments.done", {**at, "arguments": args, "name": call.name}
            yield "response.output_item.done", {"output_index": index, "item": done}

    def error(self, status: int, message: str) -> Json:
        """An error as OpenAI tells it."""
        return Chat().error(status, message)

    def heard(self, body: bytes) -> Turn:
        """What it said; its reasoning is left out."""
        answer = parsed(_Answer, body)
        said = _turn(item for item in answer.output if isinstance(item, _Message | _Use))
        return Turn(
            text=said.text,
            calls=said.calls,
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
            cut=answer.incomplete_details is not None and answer.incomplete_details.reason == "max_output_tokens",
        )

    def alone(self, body: bytes) -> bytes:
        """Without ids of items, which are ours and mean nothing to a live model; nothing is stored there."""
        asked = {**json.loads(body), "store": False}
        if isinstance(asked["input"], list):
            asked["input"] = [{key: item[key] for key in item if key != "id"} for item in asked["input"]]
        return compact({key: asked[key] for key in asked if key not in {"stream", "stream_options"}}).encode()

    def bearing(self, key: str) -> Mapping[str, str]:
        """The key."""
        return Chat().bearing(key)


def _entries(items: Sequence[_Message | _Use | _Result | _Reasoning]) -> Iterator[UserSaid | Answered | Turn]:
    heard = [item for item in items if not isinstance(item, _Reasoning) and not _instructs(item)]
    for ours, group in itertools.groupby(heard, key=_by_assistant):
        if ours:
            yield _turn(item for item in group if isinstance(item, _Message | _Use))
            continue
        for item in group:
            if isinstance(item, _Result):
                yield Answered(item.call_id, _text(item.output))
            elif isinstance(item, _Message):
                yield UserSaid(_text(item.content))


def _instructs(item: object) -> bool:
    return isinstance(item, _Message) and item.role in {"system", "developer"}


def _by_assistant(item: object) -> bool:
    return isinstance(item, _Use) or (isinstance(item, _Message) and item.role == "assistant")


def _turn(items: Iterable[_Message | _Use]) -> Turn:
    items = tuple(items)
    return Turn(
        text="\n".join(_text(item.content) for item in items if isinstance(item, _Message)),
        calls=tuple(
            Call(item.name, arguments(item.arguments), item.call_id) for item in items if isinstance(item, _Use)
        ),
    )


def _text(content: str | Sequence[_Part]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _head(request: Request) -> dict[str, Json]:
    return {
        "id": answer_id("resp_", request),
        "object": "response",
        "created_at": 0,
        "model": request.model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": None,
        "top_p": None,
    }


def _said(request: Request, text: str) -> dict[str, Json]:
    return {
        "id": answer_id("msg_", request),
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [_part(text)],
    }


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _used(request: Request, place: int, call: Call, args: str) -> dict[str, Json]:
    return {
        "id": answer_id("fc_", request) + str(place),
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": args,
    }


def _spoken(request: Request, text: str) -> Iterator[tuple[str, dict[str, Json]]]:
    done = _said(request, text)
    at: dict[str, Json] = {"item_id": done["id"], "output_index": 0, "content_index": 0}
    begun: Json = {**done, "status": "in_progress", "content": []}
    yield "response.output_item.added", {"output_index": 0, "item": begun}
    yield "response.content_part.added", {**at, "part": _part("")}
    for piece in pieces(text):
        yield "response.output_text.delta", {**at, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**at, "text": text, "logprobs": []}
    yield "response.content_part.done", {**at, "part": _part(text)}
    yield "response.output_item.done", {"output_index": 0, "item": done}


def _usage(turn: Turn) -> Json:
    return {
        "input_tokens": turn.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": turn.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": turn.input_tokens + turn.output_tokens,
    }
