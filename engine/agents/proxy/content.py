"""What a conversation may hold: text, calls, and media that are inline. A reference (a URL, a file of the provider's)
would let the provider fetch what the step may not reach. Kinds of parts that are not known here are declined."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.agents.proxy.declined import Declined
from engine.domain.agent import Api
from engine.domain.gate import Json

Fields = Mapping[str, Json]
INLINE = "data:"


def must_be_inline(api: Api, fields: Fields) -> None:
    """Hold a request's whole conversation to that; raises Declined."""
    match api:
        case Api.ANTHROPIC:
            _parts(fields.get("system"), _anthropic)
            for message in _objects(fields.get("messages"), "messages"):
                _parts(message.get("content"), _anthropic)
        case Api.OPENAI:
            for message in _objects(fields.get("messages"), "messages"):
                if message.get("audio") is not None:
                    raise _reference("audio")
                _parts(message.get("content"), _chat)
        case Api.OPENAI_RESPONSES:
            if not isinstance(fields.get("instructions"), str | None):
                raise Declined(400, "instructions must be text")
            if not isinstance(fields.get("input"), str):
                for item in _objects(fields.get("input"), "input"):
                    _item(item)


def _objects(value: Json, name: str) -> list[Fields]:
    if not isinstance(value, list):
        raise Declined(400, f"{name} must be a list")
    found = [item for item in value if isinstance(item, dict)]
    if len(found) != len(value):
        raise Declined(400, f"{name} must be a list of objects")
    return list(found)


def _parts(value: Json, hold: Callable[[str, Fields], None]) -> None:
    """Text, nothing, or a list of parts."""
    if isinstance(value, str | None):
        return
    for part in _objects(value, "content"):
        hold(_kind(part), part)


def _kind(part: Fields, default: str = "") -> str:
    kind = part.get("type", default)
    return kind if isinstance(kind, str) else ""


def _within(part: Fields, name: str) -> Fields:
    value = part.get(name)
    return value if isinstance(value, dict) else {}


def _reference(kind: str) -> Declined:
    return Declined(400, f"content of type {kind!r} is not passed on unless it is inline")


def _anthropic(kind: str, part: Fields) -> None:
    source = _within(part, "source")
    match kind, _kind(source):
        case (("text" | "thinking" | "redacted_thinking" | "tool_use"), _):
            return
        case "tool_result", _:
            _parts(part.get("content"), _anthropic)
        case (("image" | "document"), "base64"):
            return
        case "document", "text":
            return
        case "document", "content":
            _parts(source.get("content"), _anthropic)
        case _:
            raise _reference(kind)


def _chat(kind: str, part: Fields) -> None:
    match kind:
        case "text" | "refusal" | "input_audio":
            return
        case "image_url" if _is_inline(_within(part, "image_url").get("url")):
            return
        case "file":
            file = _within(part, "file")
            if file.get("file_id") is None and _is_inline(file.get("file_data")):
                return
    raise _reference(kind)


def _item(item: Fields) -> None:
    """One item of the input of `responses`."""
    match kind := _kind(item, "message"):
        case "message":
            _parts(item.get("content"), _response)
        case "function_call" | "custom_tool_call" | "reasoning":
            return
        case "function_call_output" | "custom_tool_call_output":
            _parts(item.get("output"), _response)
        case _:
            raise _reference(kind)


def _response(kind: str, part: Fields) -> None:
    referred = any(part.get(name) is not None for name in ("file_id", "file_url"))
    match kind:
        case "input_text" | "output_text" | "refusal":
            return
        case "input_image" if not referred and _is_inline(part.get("image_url")):
            return
        case "input_file" if not referred and isinstance(part.get("file_data"), str):
            return
    raise _reference(kind)


def _is_inline(value: Json) -> bool:
    return isinstance(value, str) and value.startswith(INLINE)
