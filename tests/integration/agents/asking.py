"""An agent of pydantic-ai, and the three formats it can ask a model in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anthropic
import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import RunUsage

Made = Callable[[str], AbstractAsyncContextManager[Model]]


@asynccontextmanager
async def claude(url: str) -> AsyncIterator[Model]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
        yield AnthropicModel("careful", provider=AnthropicProvider(anthropic_client=client))


@asynccontextmanager
async def chat(url: str) -> AsyncIterator[Model]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        yield OpenAIChatModel("careful", provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def responses(url: str) -> AsyncIterator[Model]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        yield OpenAIResponsesModel("careful", provider=OpenAIProvider(openai_client=client))


every_format = pytest.mark.parametrize("made", [claude, chat, responses], ids=["anthropic", "chat", "responses"])


class Diagnosis(BaseModel):
    """What the agent of these tests is to find."""

    cause: str


def _agent() -> Agent[None, Diagnosis]:
    agent = Agent(output_type=Diagnosis, instructions="Step diagnose. Find the cause.")

    @agent.tool_plain
    def run(argv: list[str]) -> str:
        return f"{argv[0]}: 97% of /srv"

    return agent


async def ask(made: Made, url: str, prompt: str, *, stream: bool = False) -> tuple[Diagnosis, RunUsage]:
    async with made(url) as model:
        if stream:
            async with _agent().run_stream(prompt, model=model) as result:
                return await result.get_output(), result.usage
        ran = await _agent().run(prompt, model=model)
        return ran.output, ran.usage
