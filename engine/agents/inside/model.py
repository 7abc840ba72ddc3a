"""The model, behind the unix socket of the worker's proxy. The token is the step's; it is no provider's key.

Only the library of the vendor that is needed is loaded: each costs a second, and every attempt starts anew.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import httpx2
from pydantic_ai.models import Model

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
    return _anthropic(start, client) if start.api == "anthropic" else _openai(start, client)


def _anthropic(start: Start, http: httpx2.AsyncClient) -> Model:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(api_key=start.token, base_url=BASE, http_client=http, max_retries=RETRIES)
    return AnthropicModel(start.model, provider=AnthropicProvider(anthropic_client=client))


def _openai(start: Start, http: httpx2.AsyncClient) -> Model:
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(api_key=start.token, base_url=f"{BASE}/v1", http_client=http, max_retries=RETRIES)
    kind = OpenAIChatModel if start.api == "openai" else OpenAIResponsesModel
    return kind(start.model, provider=OpenAIProvider(openai_client=client))
