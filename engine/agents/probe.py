"""Does a model really call a tool? `signalbox model check` asks it, through the proxy, as an agent's step would.

A local server whose chat template knows no tools drops them and says nothing: the same question then costs as much
with a tool as without one.
"""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass

from engine.agents.models import Model
from engine.agents.proxy import Door, ModelProxy
from engine.agents.proxy.meter import Meter
from engine.agents.proxy.request import PATHS
from engine.domain.agent import Api, Budget, Usage
from engine.domain.errors import Unavailable
from engine.domain.gate import Json

TOOL, NUMBER = "report", 7
QUESTION = f"Call the tool `{TOOL}` with the number {NUMBER}. Say nothing else."
DESCRIPTION = "Reports a number."
SCHEMA: Json = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
BUDGET = Budget(requests=2, tokens=20_000, calls=0)
MOST_OUTPUT = 2048
""" Enough for a model that thinks first. """
PATIENCE_S = 300.0
MAX_TOLD = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What came of it. `without`, `with_tool`: input tokens that the provider counted; None: it did not."""

    called: bool
    without: int | None
    with_tool: int | None
    usage: Usage

    @property
    def drops_tools(self) -> bool:
        """The tool cost nothing, so the model never saw it."""
        return not self.called and self.without is not None and self.without == self.with_tool


def probe(proxy: ModelProxy, model: Model) -> Probed:
    """Ask twice, without a tool and with one. Raises BadInput (no key), Unavailable with what its server said."""
    used = Usage()
    lock = threading.Lock()

    def spend(usage: Usage) -> Usage:
        nonlocal used
        with lock:
            used += usage
            return used

    with proxy.door(model=model.name, budget=BUDGET, used=used, spend=spend, lives_s=2 * PATIENCE_S) as door:
        without = _ask(door, _question(door.api, with_tool=False))
        with_tool = _ask(door, _question(door.api, with_tool=True))
    return Probed(
        called=any(name == TOOL and number == NUMBER for name, number in _calls(door.api, with_tool)),
        without=_input(door.api, without),
        with_tool=_input(door.api, with_tool),
        usage=used,
    )


def _question(api: Api, *, with_tool: bool) -> dict[str, Json]:
    turn: Json = [{"role": "user", "content": QUESTION}]
    match api:
        case Api.ANTHROPIC:
            body: dict[str, Json] = {"messages": turn, "max_tokens": MOST_OUTPUT}
            tool: Json = {"name": TOOL, "description": DESCRIPTION, "input_schema": SCHEMA}
        case Api.OPENAI:
            body = {"messages": turn}
            tool = {"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}}
        case Api.OPENAI_RESPONSES:
            body = {"input": turn, "max_output_tokens": MOST_OUTPUT}
            tool = {"type": "function", "name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}
    return {**body, "tools": [tool]} if with_tool else body


def _ask(door: Door, body: dict[str, Json]) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)
    try:
        headers = {"Authorization": f"Bearer {door.token}", "Content-Type": "application/json"}
        connection.request("POST", f"/v1{PATHS[door.api]}", json.dumps({"model": door.model, **body}), headers)
        answer = connection.getresponse()
        said = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the model did not answer ({type(error).__name__})", "try again") from None
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        told = " ".join(said.decode("utf-8", "replace").split())[:MAX_TOLD]
        raise Unavailable(f"the model's server answers {answer.status}: {told}", "mend its entry or its server")
    return said


def _input(api: Api, said: bytes) -> int | None:
    meter = Meter(api, streams=False)
    meter.feed(said)
    meter.end()
    return meter.counted.tokens_in


def _calls(api: Api, said: bytes) -> list[tuple[Json, Json]]:
    """Name and number of each call in an answer. What has another form than it should is no call."""
    try:
        answer = json.loads(said)
        match api:
            case Api.ANTHROPIC:
                made = [(it["name"], it["input"]) for it in answer["content"] if it["type"] == "tool_use"]
            case Api.OPENAI:
                calls = answer["choices"][0]["message"].get("tool_calls") or []
                made = [(it["function"]["name"], json.loads(it["function"]["arguments"])) for it in calls]
            case Api.OPENAI_RESPONSES:
                calls = [it for it in answer["output"] if it["type"] == "function_call"]
                made = [(it["name"], json.loads(it["arguments"])) for it in calls]
        return [(name, args["number"]) for name, args in made]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []
