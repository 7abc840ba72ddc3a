"""`signalbox model list` and `model check`: does a model really call the tool that it is offered, and what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli import cli
from engine.domain.agent import Api
from tests.integration.agents.doors import PATHS
from tests.integration.agents.provider import KEY, Asked, Provider, Reply

each_api = pytest.mark.parametrize("api", tuple(Api))


def signalbox(tmp_path: Path, url: str, api: Api, *argv: str, price: str = "{input: 3, output: 15}") -> Result:
    """The command, with one model `careful` at `url`."""
    (tmp_path / "key").write_text(KEY)
    entry = f"{{api: {api}, model: m, key_file: key, url: '{url}', price: {price}}}"
    (tmp_path / "models.yaml").write_text(f"careful: {entry}\n")
    env = {"SIGNALBOX_MODELS": str(tmp_path / "models.yaml"), "SIGNALBOX_HOME": str(tmp_path)}
    result = CliRunner().invoke(cli, argv, env=env)
    assert KEY not in result.output
    return result


def answer(api: Api, number: int | None, tokens_in: int) -> Reply:
    """With a call of the tool, or with words."""
    body: dict[str, Any]
    match api:
        case Api.ANTHROPIC:
            said = {"type": "tool_use", "id": "t", "name": "report", "input": {"number": number}}
            content = [{"type": "text", "text": "ok"}, *([said] if number else [])]
            usage = {"input_tokens": tokens_in, "output_tokens": 10}
            body = {"type": "message", "content": content, "usage": usage}
        case Api.OPENAI:
            call = {"id": "t", "function": {"name": "report", "arguments": json.dumps({"number": number})}}
            message = {"content": None, "tool_calls": [call]} if number else {"content": "report(7)"}
            usage = {"prompt_tokens": tokens_in, "completion_tokens": 10}
            body = {"choices": [{"message": message}], "usage": usage}
        case Api.OPENAI_RESPONSES:
            item = {"type": "function_call", "name": "report", "arguments": json.dumps({"number": number})}
            output = [{"type": "reasoning"}, *([item] if number else [])]
            body = {"output": output, "usage": {"input_tokens": tokens_in, "output_tokens": 10}}
    return Reply(pieces=(json.dumps(body).encode(),))


@each_api
def test_a_model_that_calls_the_tool_is_well(tmp_path: Path, api: Api) -> None:
    def script(asked: Asked) -> Reply:
        return answer(api, 7, 90) if "tools" in asked.body else answer(api, None, 40)

    with Provider(script).running() as provider:
        result = signalbox(tmp_path, provider.url, api, "model", "check", "careful")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["careful calls tools", "2 requests, 150 tokens, $0.0007"]
    assert [asked.path for asked in provider.asked] == [PATHS[api]] * 2


@each_api
@pytest.mark.parametrize(
    ("number", "tokens", "says"), [(None, 40, "drops tools"), (None, 90, "did not call"), (8, 90, "did not call")]
)
def test_a_model_that_does_not_is_not_well(
    tmp_path: Path, api: Api, number: int | None, tokens: int, says: str
) -> None:
    def script(asked: Asked) -> Reply:
        return answer(api, number, tokens) if "tools" in asked.body else answer(api, None, 40)

    with Provider(script).running() as provider:
        result = signalbox(tmp_path, provider.url, api, "model", "check", "careful", price="null")

    assert result.exit_code == 1
    assert says in result.stdout
    assert "its price is unknown" in result.stdout


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}', b"<html>"])
def test_an_answer_of_another_form_calls_nothing(tmp_path: Path, said: bytes) -> None:
    with Provider(lambda _: Reply(pieces=(said,) if said else ())).running() as provider:
        assert signalbox(tmp_path, provider.url, Api.OPENAI, "model", "check", "careful").exit_code == 1


def test_an_error_of_the_provider_is_told(tmp_path: Path) -> None:
    with Provider(lambda _: Reply(status=404, pieces=(b'{"error": "no such model"}',))).running() as provider:
        result = signalbox(tmp_path, provider.url, Api.OPENAI, "model", "check", "careful")

    assert result.exit_code == 1
    assert "answers 404" in result.output
    assert "no such model" in result.output


def test_the_list_shows_where_keys_lie_and_none_of_them(tmp_path: Path) -> None:
    result = signalbox(tmp_path, "http://127.0.0.1:9", Api.OPENAI, "model", "list")
    assert result.exit_code == 0
    assert "127.0.0.1:9" in result.stdout
    assert " there " in result.stdout
    assert "3 in, 15 out" in result.stdout
