"""The vendors' own clients, and pydantic-ai over them, take our server for a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from engine.agents.replay import Answered, Fault, ReplayServer, Request, ScriptedModel, UserSaid, call, read_tape, say

Made = Callable[[str], Model]
SCRIPT = [say("I look at the disk first. Grüße.", call("run", {"argv": ["df", "/srv"]}), tokens=(1200, 40))]


def _anthropic(url: str) -> Model:
    client = anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0)
    return AnthropicModel("careful", provider=AnthropicProvider(anthropic_client=client))


def _openai(url: str) -> OpenAIProvider:
    return OpenAIProvider(openai_client=openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0))


def _chat(url: str) -> Model:
    return OpenAIChatModel("careful", provider=_openai(url))


def _responses(url: str) -> Model:
    return OpenAIResponsesModel("careful", provider=_openai(url))


every_format = pytest.mark.parametrize("made", [_anthropic, _chat, _responses], ids=["anthropic", "chat", "responses"])


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    with ReplayServer(ScriptedModel(SCRIPT)) as server:
        yield server


# -- the vendors' clients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_client(server: ReplayServer, stream: bool) -> None:
    """Text, a call, the reason it stopped and usage arrive, in one piece and streamed."""
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client:
        asked = {"model": "careful", "max_tokens": 100, "messages": [{"role": "user", "content": "disk full"}]}
        if stream:
            with client.messages.stream(**asked) as events:  # type: ignore[arg-type]
                assert "".join(events.text_stream) == "I look at the disk first. Grüße."
                message = events.get_final_message()
        else:
            message = client.messages.create(**asked)  # type: ignore[call-overload]

    text, use = message.content
    assert (text.type, use.type) == ("text", "tool_use")
    assert (text.text, use.name, use.input) == ("I look at the disk first. Grüße.", "run", {"argv": ["df", "/srv"]})
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (1200, 40)


@pytest.mark.parametrize("stream", [False, True])
def test_openai_chat_client(server: ReplayServer, stream: bool) -> None:
    """Text, a call, the reason it stopped and usage arrive, in one piece and streamed."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client:
        messages = [{"role": "system", "content": "You look."}, {"role": "user", "content": "disk full"}]
        if stream:
            options = {"stream_options": {"include_usage": True}}
            with client.chat.completions.stream(model="careful", messages=messages, **options) as events:  # type: ignore[arg-type]
                completion = events.get_final_completion()
        else:
            completion = client.chat.completions.create(model="careful", messages=messages)  # type: ignore[arg-type, assignment]

    choice = completion.choices[0]
    assert choice.message.content == "I look at the disk first. Grüße."
    (use,) = choice.message.tool_calls or ()
    assert isinstance(use, ChatCompletionMessageFunctionToolCall)
    assert (use.id, use.function.name, use.function.arguments) == ("call_1_1", "run", '{"argv":["df","/srv"]}')
    assert choice.finish_reason == "tool_calls"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (1200, 40)
    assert server.requests[0].instructions == "You look."


@pytest.mark.parametrize("stream", [False, True])
def test_openai_responses_client(server: ReplayServer, stream: bool) -> None:
    """Text, a call, the state and usage arrive, in one piece and streamed."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client:
        if stream:
            with client.responses.stream(model="careful", instructions="You look.", input="disk full") as events:
                response = events.get_final_response()
        else:
            response = client.responses.create(model="careful", instructions="You look.", input="disk full")  # type: ignore[assignment]

    assert response.output_text == "I look at the disk first. Grüße."
    use = response.output[1]
    assert isinstance(use, ResponseFunctionToolCall)
    assert (use.call_id, use.name, use.arguments) == ("call_1_1", "run", '{"argv":["df","/srv"]}')
    assert response.status == "completed"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (1200, 40)
    assert server.requests[0].instructions == "You look."
    assert server.requests[0].history == (UserSaid("disk full"),)


def test_a_turn_that_is_cut_says_so() -> None:
    """Each client reads that the limit of tokens was met."""
    with ReplayServer(ScriptedModel([say("I was about", cut=True)])) as server:
        with anthropic.Anthropic(base_url=server.url, api_key="k") as claude:
            message = claude.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "go"}])
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k") as gpt:
            completion = gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}])
            response = gpt.responses.create(model="m", input="go")

    assert message.stop_reason == "max_tokens"
    assert completion.choices[0].finish_reason == "length"
    assert (response.status, response.incomplete_details and response.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )


# -- pydantic-ai ------------------------------------------------------------------------------------------------------


class Diagnosis(BaseModel):
    """What the agent of these tests is to find."""

    cause: str


def _agent(model: Model) -> Agent[None, Diagnosis]:
    agent = Agent(model, output_type=Diagnosis, instructions="Step diagnose. Find the cause.")

    @agent.tool_plain
    def run(argv: list[str]) -> str:
        return f"{argv[0]}: 97% of /srv"

    return agent


TAPE = """
format: signalbox-tape/v1
conversations:
  - key: Step diagnose
    turns:
      - expects: [the disk of checkout]
        says: I look at the disk first.
        calls:
          - {id: look, tool: run, args: {argv: [df, /srv]}}
          - {id: look_too, tool: run, args: {argv: [du, /srv]}}
        usage: {input: 1200, output: 40}
      - expects: ["/df: 9[0-9]%/", "du: 97%"]
        calls:
          - {id: found, tool: final_result, args: {cause: log_growth}}
        usage: {input: 1300, output: 10}
  - key: Step fix
    turns:
      - expects: [fix it]
        says: Fixed.
        usage: {input: 1, output: 1}
"""


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    path = tmp_path / "disk.yaml"
    path.write_text(TAPE)
    return path


@every_format
@pytest.mark.parametrize("stream", [False, True])
def test_a_tape_is_told_in_every_format(tape: Path, made: Made, stream: bool) -> None:
    """pydantic-ai runs a conversation of two turns and two parallel calls off one tape."""

    async def go(url: str) -> tuple[Diagnosis, int, int, int]:
        agent = _agent(made(url))
        if stream:
            async with agent.run_stream("the disk of checkout is full") as result:
                output, usage = await result.get_output(), result.usage
        else:
            ran = await agent.run("the disk of checkout is full")
            output, usage = ran.output, ran.usage
        return output, usage.requests, usage.input_tokens, usage.output_tokens

    with ReplayServer(read_tape(tape)) as server:
        output, requests, tokens_in, tokens_out = asyncio.run(go(server.url))

    assert output == Diagnosis(cause="log_growth")
    assert (requests, tokens_in, tokens_out) == (2, 2500, 50)
    assert server.requests[1].tools == ("run", "final_result")
    assert server.requests[1].latest == (
        Answered("look", "df: 97% of /srv"),
        Answered("look_too", "du: 97% of /srv"),
    )


@every_format
def test_what_is_not_on_the_tape_is_refused(tape: Path, made: Made) -> None:
    """The client gets what was expected and what came."""
    with ReplayServer(read_tape(tape)) as server, pytest.raises(ModelHTTPError) as refused:
        asyncio.run(_agent(made(server.url)).run("the disk of shop is full"))

    assert refused.value.status_code == 400
    assert "disk.yaml, 'Step diagnose', turn 1: expected 'the disk of checkout'" in str(refused.value)
    assert "What came: 'the disk of shop is full'" in str(refused.value)


def test_runs_at_once_do_not_disturb_one_another(tape: Path) -> None:
    """Eight runs of one tape, in three formats."""

    def go(made: Made) -> Diagnosis:
        return asyncio.run(_agent(made(server.url)).run("the disk of checkout is full")).output

    with ReplayServer(read_tape(tape)) as server, ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(go, [_anthropic, _chat, _responses, _anthropic, _chat, _responses, _chat, _anthropic]))

    assert outputs == [Diagnosis(cause="log_growth")] * 8
    assert server.refused == []


@every_format
def test_a_fault_arrives_as_the_providers_status(made: Made) -> None:
    """429 is 429."""
    model = ScriptedModel([Fault(429, "slow down")])
    with ReplayServer(model) as server, pytest.raises(ModelHTTPError, match="slow down") as refused:
        asyncio.run(_agent(made(server.url)).run("go"))

    assert refused.value.status_code == 429


def test_a_function_answers_by_what_was_said() -> None:
    """It sees the conversation so far in no vendor's words."""

    def function(request: Request) -> object:
        last = request.latest[-1]
        if isinstance(last, Answered):
            return call("final_result", {"cause": last.text})
        return call("run", {"argv": [last.text]})

    with ReplayServer(ScriptedModel(function)) as server:  # type: ignore[arg-type]
        ran = asyncio.run(_agent(_anthropic(server.url)).run("uptime"))

    assert ran.output == Diagnosis(cause="uptime: 97% of /srv")


def test_over_a_unix_socket(tmp_path: Path) -> None:
    """As the loop reaches a model: no port is open; the socket's name is gone at the end."""
    path = tmp_path / "model.sock"
    with ReplayServer(ScriptedModel(SCRIPT), socket_path=path) as server:
        http = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)))
        with anthropic.Anthropic(base_url=server.url, api_key="k", http_client=http) as client:
            message = client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "go"}])

    assert message.stop_reason == "tool_use"
    assert not path.exists()
