"""The loop: ask the model, hand its calls to the worker, go on until it finishes.

The conversation goes to the worker after every answer of the model, before any call of that answer is made, and again
before the next request: whoever takes over begins where the record ends. Calls are made one after another.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from pydantic_ai import Agent, ModelMessagesTypeAdapter, ModelRetry, RunContext, StructuredDict, Tool, ToolOutput
from pydantic_ai.exceptions import AgentRunError, ModelHTTPError, UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from . import finish, model
from .wire import LONGEST, Answer, Call, End, Line, Said, Start, ToolLine

MENDS = 2
""" How often a model may mend an output that does not fit, or a call that cannot be read. """
ANSWER_TOKENS = 8192
""" The longest answer of a model. """


def _say(line: Line) -> None:
    sys.stdout.buffer.write(line.line())
    sys.stdout.buffer.flush()


def _hear() -> bytes:
    line = sys.stdin.buffer.readline(LONGEST)
    if not line.endswith(b"\n"):
        raise EOFError("the worker is gone")
    return line


def _tool(spec: ToolLine) -> Tool[None]:
    async def make(ctx: RunContext[None], /, **args: Any) -> str:
        # it blocks, on purpose: calls take turns
        _say(Call(id=ctx.tool_call_id or "", tool=spec.name, args=args))
        return Answer.model_validate_json(_hear()).text

    return Tool.from_schema(make, spec.name, spec.description, spec.parameters, takes_ctx=True, sequential=True)


def _agent(start: Start) -> Agent[None, Any]:
    schema = start.finish
    agent: Agent[None, Any] = Agent(
        model.of(start),
        output_type=str if schema is None else ToolOutput(StructuredDict(schema), name="finish", max_retries=MENDS),
        instructions=start.instructions,
        tools=[_tool(spec) for spec in start.tools],
        retries={"tools": MENDS, "output": MENDS},
        end_strategy="early",
        model_settings=ModelSettings(max_tokens=ANSWER_TOKENS, parallel_tool_calls=False),
    )
    if schema is not None:

        @agent.output_validator
        def fits(output: Any) -> Any:
            if wrong := finish.faults(output, schema):
                raise ModelRetry("; ".join(wrong))
            return output

    return agent


def _keep(messages: list[ModelMessage], tools: frozenset[str]) -> None:
    last = messages[-1] if messages else None
    parts = last.parts if isinstance(last, ModelResponse) else ()
    said = [part.content for part in parts if isinstance(part, TextPart)]
    strange = [part for part in parts if isinstance(part, ToolCallPart) and part.tool_name not in tools]
    said += [f"(asks for a tool that is not there: {part.tool_name} {part.args_as_json_str()})" for part in strange]
    text = "\n".join(said)
    kept = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    _say(Said(messages=kept, text=text[: 64 * 1024]))


async def _loop(start: Start) -> End:
    history = ModelMessagesTypeAdapter.validate_python(start.history)
    limits = UsageLimits(request_limit=start.requests, total_tokens_limit=start.tokens, tool_calls_limit=start.calls)
    prompt, tools = None if history else start.user, frozenset({"finish", *(spec.name for spec in start.tools)})
    async with _agent(start).iter(prompt, message_history=history or None, usage_limits=limits) as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                _keep([*run.all_messages(), node.request], tools)
            elif Agent.is_call_tools_node(node):
                _keep(run.all_messages(), tools)
    if run.result is None:
        return End(reason="the model gave no output")
    return End(output=run.result.output)


def _message(body: object) -> object:
    """What an error of either vendor says, of what stands around it."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    return inner.get("message", inner) if isinstance(inner, dict) else inner


def main() -> None:
    """One conversation, from its `Start` to its `End`."""
    start = Start.model_validate_json(_hear())
    try:
        end = asyncio.run(_loop(start))
    except ModelHTTPError as error:
        end = End(reason=f"the model answered {error.status_code}: {_message(error.body)}"[:1000])
    except UsageLimitExceeded as error:
        of_calls = "tool_calls_limit" in str(error)  # more in one answer than are left: none of them is made
        end = End(reason="its budget of calls is used up" if of_calls else "it may ask the model no more")
    except AgentRunError as error:
        end = End(reason=f"{error}"[:1000])
    _say(end)
