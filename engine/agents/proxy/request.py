"""One request as it is passed on: known fields, our model, no tools of the provider's, no more output than is left.

What a client sends is hostile until parsed, and what is passed on is written anew from what was parsed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from engine.agents.models import Model
from engine.agents.proxy.content import must_be_inline
from engine.agents.proxy.declined import Declined, plain
from engine.domain.agent import Api
from engine.domain.gate import Json

BYTES_A_TOKEN = 3
""" Prose has four, code a little more than three: an estimate is too high rather than too low. Text made to have fewer
costs more than was set aside, once: it is counted as the provider counts it, before the next request. """
HIDDEN = 300
""" Tokens that a provider adds for tools and roles. """
LEAST_THINKING = 1024
""" Anthropic takes no smaller budget for it. """

PATHS = {
    Api.ANTHROPIC: "/messages",
    Api.OPENAI: "/chat/completions",
    Api.OPENAI_RESPONSES: "/responses",
}

_ANYWHERE = frozenset({"model", "stream", "temperature", "top_p", "tools", "tool_choice"})
FIELDS = {
    Api.ANTHROPIC: _ANYWHERE
    | {"messages", "system", "max_tokens", "stop_sequences", "top_k", "thinking", "output_config", "cache_control"},
    Api.OPENAI: _ANYWHERE
    | {"messages", "max_tokens", "max_completion_tokens", "stop", "response_format", "reasoning_effort", "verbosity"}
    | {"parallel_tool_calls", "seed", "presence_penalty", "frequency_penalty"},
    Api.OPENAI_RESPONSES: _ANYWHERE
    | {"input", "instructions", "max_output_tokens", "parallel_tool_calls", "reasoning", "text", "truncation"},
}
""" The others are dropped: what is kept, run or fetched at the provider, or costs more (a tier, several answers). """

OWN_TOOLS = {
    Api.ANTHROPIC: frozenset({"custom", None}),
    Api.OPENAI: frozenset({"function", "custom"}),
    Api.OPENAI_RESPONSES: frozenset({"function", "custom"}),
}
""" Types of tools that the client itself runs. """

OUTPUT_FIELDS = {
    Api.ANTHROPIC: ("max_tokens",),
    Api.OPENAI: ("max_completion_tokens", "max_tokens"),
    Api.OPENAI_RESPONSES: ("max_output_tokens",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request without its limit. `asked`: output tokens that it may cost at most; `weight`: what its input costs at
    most, in tokens; `caches`: whether writing to the provider's cache is paid for; `taken_out`: tools."""

    api: Api
    fields: dict[str, Json] = field(repr=False)
    output_field: str
    asked: int
    weight: int
    caches: bool
    taken_out: tuple[str, ...] = ()

    def body(self, most: int) -> bytes:
        """As it is sent, with `most` output tokens."""
        fields = {**self.fields, self.output_field: most}
        thinking = fields.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        if isinstance(thinking, dict) and isinstance(budget, int) and budget >= most:
            if most > LEAST_THINKING:
                fields["thinking"] = {**thinking, "budget_tokens": most - 1}
            else:
                del fields["thinking"]
        return _dumped(fields)


def read(body: bytes, model: Model) -> Request:
    """Hold a body to what may be passed on to this model; raises Declined."""
    raw = _parsed(body)
    asked_for = raw.get("model")
    if asked_for not in (model.model, model.name):
        raise Declined(403, f"model {plain(asked_for)[:60]!r} is not this step's: it has {model.model}")
    api = model.api
    fields: dict[str, Json] = {name: value for name, value in raw.items() if name in FIELDS[api] and value is not None}
    fields["model"] = model.model
    must_be_inline(api, fields)
    taken_out = _take_out_tools(api, fields)
    name, asked = _output(fields, model)
    _add_ours(api, fields, raw)
    size = _dumped(fields)
    return Request(
        api=api,
        fields=fields,
        output_field=name,
        asked=asked,
        weight=len(size) // BYTES_A_TOKEN + HIDDEN,
        caches=b'"cache_control"' in size,
        taken_out=taken_out,
    )


def _parsed(body: bytes) -> dict[str, Json]:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raise Declined(400, "the body is not JSON") from None
    if not isinstance(raw, dict):
        raise Declined(400, "the body is not a JSON object")
    return raw


def _dumped(fields: dict[str, Json]) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):  # NaN, or half of a surrogate pair
        raise Declined(400, "the body is not JSON that can be passed on") from None


def _take_out_tools(api: Api, fields: dict[str, Json]) -> tuple[str, ...]:
    """What the provider would run goes (search, code, MCP, files); returns the types of what went."""
    tools = fields.pop("tools", None)
    if not isinstance(tools, list | None):
        raise Declined(400, "tools must be a list")
    kept: list[Json] = []
    out: list[str] = []
    for tool in tools or []:
        kind = tool.get("type") if isinstance(tool, dict) else "?"
        if isinstance(kind, str | None) and kind in OWN_TOOLS[api]:
            kept.append(tool)
        else:
            out.append(plain(kind)[:60])
    if kept:
        fields["tools"] = kept
    else:
        fields.pop("tool_choice", None)
        fields.pop("parallel_tool_calls", None)
    return tuple(out)


def _output(fields: dict[str, Json], model: Model) -> tuple[str, int]:
    """The field that limits the output, taken out, and what it may be. Nothing asked for: as much as the model's
    entry allows. OpenAI itself knows the newer name, servers that are compatible mostly the older one."""
    asked = {name: fields.pop(name) for name in OUTPUT_FIELDS[model.api] if name in fields}
    for value in asked.values():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Declined(400, "the limit of output tokens must be a number from 1")
    numbers = [value for value in asked.values() if isinstance(value, int)]
    names = OUTPUT_FIELDS[model.api]
    name = next(iter(asked), names[0] if model.address.host.endswith(".openai.com") else names[-1])
    return name, min([*numbers, model.max_output_tokens])


def _add_ours(api: Api, fields: dict[str, Json], raw: dict[str, Json]) -> None:
    """What the client has no say in: usage is told in a stream too, and the provider keeps nothing."""
    if not isinstance(fields.get("stream", False), bool):
        raise Declined(400, "stream must be true or false")
    if api is Api.OPENAI and fields.get("stream"):
        fields["stream_options"] = {"include_usage": True}
    if api is Api.OPENAI_RESPONSES:
        fields["store"] = False
        wanted = raw.get("include")
        if isinstance(wanted, list) and "reasoning.encrypted_content" in wanted:
            fields["include"] = ["reasoning.encrypted_content"]
