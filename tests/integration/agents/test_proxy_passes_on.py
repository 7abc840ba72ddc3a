"""What the model proxy passes on to a provider: known fields, our model, its own tools, media that are inline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.domain.agent import Api
from tests.integration.agents.doors import MODEL, asking, model, opened, post
from tests.integration.agents.provider import Provider

each_api = pytest.mark.parametrize("api", tuple(Api))


@each_api
def test_fields_and_tools_that_act_at_the_provider_are_not_passed_on(
    provider: Provider, tmp_path: Path, api: Api
) -> None:
    ours: dict[str, Any]
    match api:
        case Api.ANTHROPIC:
            ours = {"name": "run", "input_schema": {"type": "object"}}
        case Api.OPENAI:
            ours = {"type": "function", "function": {"name": "run"}}
        case Api.OPENAI_RESPONSES:
            ours = {"type": "function", "name": "run"}
    theirs = [
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "code_execution_20250522", "name": "code_execution"},
        {"type": "mcp", "server_url": "https://evil.example"},
        {"type": "file_search"},
        {"type": ["function"]},
        "web_search",
    ]
    body = asking(
        api,
        tools=[ours, *theirs],
        temperature=0.5,
        mcp_servers=[{"url": "https://evil.example"}],
        container="c",
        service_tier="priority",
        n=20,
        store=True,
        background=True,
        previous_response_id="resp_1",
        prompt={"id": "pmpt_1"},
        web_search_options={},
        metadata={"a": "b"},
        include=["web_search_call.results", "reasoning.encrypted_content"],
        surprise=1,
    )
    with opened(model(api, provider.url, tmp_path)) as door:
        assert post(door, body).status_code == 200

    [asked] = provider.asked
    assert asked.body["tools"] == [ours]
    assert asked.body["temperature"] == 0.5
    known = {"model", "messages", "input", "tools", "temperature", "max_tokens", "max_output_tokens"}
    extra = {"store", "include"} if api is Api.OPENAI_RESPONSES else set()
    assert asked.body.keys() <= known | extra
    assert asked.body.get("store") is (False if api is Api.OPENAI_RESPONSES else None)  # unsaid, OpenAI keeps it
    assert asked.body.get("include") == (["reasoning.encrypted_content"] if api is Api.OPENAI_RESPONSES else None)
    assert len(door.refusals) == len(theirs)
    assert "web_search_20250305" in door.refusals[0]


def _content(api: Api, part: Any) -> dict[str, Any]:
    turn = [{"role": "user", "content": [part]}]
    return {"model": MODEL, "input": turn} if api is Api.OPENAI_RESPONSES else {"model": MODEL, "messages": turn}


REFERENCES: tuple[tuple[Api, Any], ...] = (
    (Api.ANTHROPIC, {"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}),
    (Api.ANTHROPIC, {"type": "document", "source": {"type": "file", "file_id": "f"}}),
    (Api.ANTHROPIC, {"type": "container_upload", "file_id": "f"}),
    (Api.ANTHROPIC, {"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}),
    (
        Api.ANTHROPIC,
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "http://x/"}}]},
    ),
    (
        Api.ANTHROPIC,
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]},
        },
    ),
    (Api.OPENAI, {"type": "image_url", "image_url": {"url": "https://evil.example/?q=secret"}}),
    (Api.OPENAI, {"type": "image_url", "image_url": "data:image/png;base64,AA=="}),
    (Api.OPENAI, {"type": "file", "file": {"file_id": "f"}}),
    (Api.OPENAI, {"type": "file", "file": {"file_id": "f", "file_data": "data:x;base64,AA=="}}),
    (Api.OPENAI, {"type": "unheard_of"}),
    (Api.OPENAI_RESPONSES, {"type": "input_image", "image_url": "https://evil.example/"}),
    (Api.OPENAI_RESPONSES, {"type": "input_image", "file_id": "f"}),
    (Api.OPENAI_RESPONSES, {"type": "input_image", "image_url": "data:x;base64,AA==", "file_id": "f"}),
    (Api.OPENAI_RESPONSES, {"type": "input_file", "file_url": "https://evil.example/"}),
    (Api.OPENAI_RESPONSES, {"type": "input_file", "file_data": "AA==", "file_url": "https://evil.example/"}),
)


@pytest.mark.parametrize(("api", "part"), REFERENCES)
def test_what_is_not_inline_is_refused(provider: Provider, tmp_path: Path, api: Api, part: Any) -> None:
    with opened(model(api, provider.url, tmp_path)) as door:
        answer = post(door, _content(api, part))

    assert answer.status_code == 400
    assert "inline" in answer.json()["error"]["message"]
    assert len(door.refusals) == 1
    assert provider.asked == []


@pytest.mark.parametrize(
    "item", [{"type": "item_reference", "id": "x"}, {"type": "web_search_call"}, {"type": "mcp_call"}]
)
def test_items_that_the_provider_would_look_up_are_refused(provider: Provider, tmp_path: Path, item: Any) -> None:
    with opened(model(Api.OPENAI_RESPONSES, provider.url, tmp_path)) as door:
        assert post(door, {"model": MODEL, "input": [item]}).status_code == 400
    assert provider.asked == []


INLINE: tuple[tuple[Api, Any], ...] = (
    (Api.ANTHROPIC, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}),
    (Api.ANTHROPIC, {"type": "tool_use", "id": "x", "name": "run", "input": {"type": "server_tool_use", "url": "x"}}),
    (Api.ANTHROPIC, {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text", "text": "97%"}]}),
    (Api.OPENAI, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}),
    (Api.OPENAI, {"type": "text", "text": "see https://example.com"}),
    (Api.OPENAI_RESPONSES, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}),
    (Api.OPENAI_RESPONSES, {"type": "input_file", "filename": "a", "file_data": "data:x;base64,AA=="}),
)


@pytest.mark.parametrize(("api", "part"), INLINE)
def test_what_is_inline_arrives_as_it_was(provider: Provider, tmp_path: Path, api: Api, part: Any) -> None:
    with opened(model(api, provider.url, tmp_path)) as door:
        assert post(door, _content(api, part)).status_code == 200

    [asked] = provider.asked
    [turn] = asked.body["input" if api is Api.OPENAI_RESPONSES else "messages"]
    assert turn["content"] == [part]


@pytest.mark.parametrize(
    ("api", "asked_for", "passed_on"),
    [
        (Api.ANTHROPIC, {}, {"max_tokens": 4096}),
        (Api.ANTHROPIC, {"max_tokens": 10}, {"max_tokens": 10}),
        (Api.ANTHROPIC, {"max_tokens": 10**9}, {"max_tokens": 4096}),
        (Api.OPENAI, {}, {"max_tokens": 4096}),
        (Api.OPENAI, {"max_completion_tokens": 10**9}, {"max_completion_tokens": 4096}),
        (Api.OPENAI, {"max_tokens": 10, "max_completion_tokens": 10**9}, {"max_completion_tokens": 10}),
        (Api.OPENAI_RESPONSES, {"max_output_tokens": 10**9}, {"max_output_tokens": 4096}),
    ],
)
def test_every_limit_of_output_is_held_to_the_models(
    provider: Provider, tmp_path: Path, api: Api, asked_for: dict[str, int], passed_on: dict[str, int]
) -> None:
    with opened(model(api, provider.url, tmp_path)) as door:
        assert post(door, asking(api, **asked_for)).status_code == 200

    [asked] = provider.asked
    assert {name: value for name, value in asked.body.items() if name.startswith("max_")} == passed_on


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"model": "big-model-1", "messages": "x"}',
        b'{"model": "big-model-1", "messages": [1]}',
        b'{"model": "big-model-1", "messages": [], "temperature": NaN}',
        b'{"model": "big-model-1", "messages": [], "stop": "\\ud800"}',
        b'{"model": "big-model-1", "messages": [], "max_tokens": -1}',
        b'{"model": "big-model-1", "messages": [], "max_tokens": true}',
        b'{"model": "big-model-1", "messages": [], "tools": {}}',
        b'{"model": "big-model-1", "messages": [], "stream": "yes"}',
    ],
)
def test_a_body_that_makes_no_sense_is_refused(provider: Provider, tmp_path: Path, body: bytes) -> None:
    with opened(model(Api.OPENAI, provider.url, tmp_path)) as door:
        assert post(door, body).status_code == 400
    assert provider.asked == []


def test_a_body_that_is_too_large_is_refused(provider: Provider, tmp_path: Path) -> None:
    with opened(model(Api.OPENAI, provider.url, tmp_path)) as door:
        assert post(door, asking(Api.OPENAI, stop="x" * (4 << 20))).status_code == 413
        assert post(door, iter([b"{}"])).status_code == 411  # chunks, of a length that nobody knows
    assert provider.asked == []
