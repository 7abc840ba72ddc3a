"""The model, behind the unix socket of the worker's proxy. The token is the step's; it is no provider's key."""

from __future__ import annotations

import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from .wire import Start

RETRIES = 2
""" Of a request, after 408, 409, 429, 5xx or a broken connection; the proxy counts each of them. """
ANSWER_S = 300.0
BASE = "http://model"


def of(start: Start) -> Model:
    """The model that the step names, in the wire format that its provider speaks."""
    client = httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=start.socket),
        timeout=httpx2.Timeout(ANSWER_S, connect=10.0),
        trust_env=False,
    )
    if start.api == "anthropic":
        anthropic = AsyncAnthropic(api_key=start.token, base_url=BASE, http_client=client, max_retries=RETRIES)
        return AnthropicModel(start.model, provider=AnthropicProvider(anthropic_client=anthropic))
    openai = AsyncOpenAI(api_key=start.token, base_url=f"{BASE}/v1", http_client=client, max_retries=RETRIES)
    provider = OpenAIProvider(openai_client=openai)
    if start.api == "openai":
        return OpenAIChatModel(start.model, provider=provider)
    return OpenAIResponsesModel(start.model, provider=provider)
