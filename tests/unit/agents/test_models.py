"""The file of models: how a bad one is refused, where keys lie, and that no key of it is ever shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import wiring
from engine.agents.models import load_models
from engine.domain.agent import Api
from engine.domain.directory import Address
from engine.domain.errors import BadInput, Refused
from engine.domain.runbook import Endpoint
from engine.settings import Settings

KEY = "sk-ant-0123456789abcdef"
GOOD = """\
careful:
  api: anthropic
  model: claude-sonnet-4-5
  key_file: key
  price: {input: 3, output: 15}
quick:
  api: openai-responses
  model: gpt-5-mini
  key_env: OPENAI_KEY
  max_output_tokens: 100
local:
  api: openai
  model: qwen3
  url: http://127.0.0.1:8000
gateway:
  api: openai
  model: a/b:free
  url: https://gateway.example:8443/openai/
  key_env: GATEWAY_KEY
  ca: ca.pem
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


def test_a_model_says_where_it_is_and_where_its_key_lies(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    models = load_models(written(tmp_path, GOOD))

    careful, quick = models.named("careful"), models.named("quick")
    local, gateway = models.named("local"), models.named("gateway")
    assert (careful.api, careful.url, careful.max_output_tokens) == (
        Api.ANTHROPIC,
        "https://api.anthropic.com/v1",
        8192,
    )
    assert careful.key({}) == KEY
    assert careful.price is not None
    assert careful.price.of(tokens_in=1_000_000, tokens_out=1_000_000) == 18_000_000
    assert (quick.url, quick.key({"OPENAI_KEY": KEY})) == ("https://api.openai.com/v1", KEY)
    assert (local.url, local.key({}), local.price) == ("http://127.0.0.1:8000/v1", "", None)
    assert (gateway.url, gateway.ca) == ("https://gateway.example:8443/openai", tmp_path / "ca.pem")
    assert gateway.address == Address(host="gateway.example", port=8443)


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_an_empty_file_and_no_file_know_no_model(tmp_path: Path, text: str) -> None:
    for path in (written(tmp_path, text), tmp_path / "missing.yaml"):
        with pytest.raises(BadInput, match="no model is named 'a'") as refused:
            load_models(path).named("a")
        assert str(path) in refused.value.remedy


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("api: gemini", "a.api"),
        ("model: ''", "a.model"),
        ("key: " + KEY, "a.key: no such field: say in key_env or key_file"),
        ("api_key: " + KEY, "a.api_key: no such field"),
        ("key_env: " + KEY, "a.key_env"),
        ("key_env: SIGNALBOX_KEY", "are settings"),
        ("key_env: [K]", "a.key_env"),
        ("key_file: /k", "give one of them"),
        ("url: http://models.example/v1", "https, or http to this machine"),
        ("url: http://127.0.0.1.example/v1", "https, or http to this machine"),
        ("url: http://10.0.0.1/v1", "https, or http to this machine"),
        ("url: ftp://127.0.0.1/", "https://HOST"),
        ("url: https://user:" + KEY + "@models.example/", "no user, password"),
        ("url: https://models.example/?key=" + KEY, "no user, password"),
        ("url: https:///v1", "https://HOST"),
        ("price: {input: 3}", "a.price.output"),
        ("price: {input: -3, output: 1}", "a.price.input"),
        ("price: {input: .nan, output: 1}", "a.price.input"),
        ("price: {input: .inf, output: 1}", "a.price.input"),
        ("price: free", "a.price"),
        ("max_output_tokens: 0", "a.max_output_tokens"),
    ],
)
def test_a_bad_entry_is_refused_with_its_reason_and_without_a_key(tmp_path: Path, entry: str, says: str) -> None:
    fields = {"api": "api: openai", "model": "model: m", "key_env": "key_env: K"}
    fields[entry.partition(":")[0]] = entry
    path = written(tmp_path, "a:\n" + "".join(f"  {line}\n" for line in fields.values()))
    with pytest.raises(BadInput) as refused:
        load_models(path)

    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert KEY not in str(refused.value) + refused.value.remedy


@pytest.mark.parametrize(
    "text", ["a: [", "- a\n", "words\n", "Big Name: {api: openai}\n", "7: {}\n", f"a: {KEY}\n", "? {a: b}\n: c"]
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"models\.yaml") as refused:
        load_models(written(tmp_path, text))
    assert KEY not in str(refused.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        load_models(written(tmp_path, "a: {api: x}\nb: {model: m, url: http://x.example}\nC: {}\n"))
    for says in ("a.api", "a.model", "b.api", "b.url", "name 'C'"):
        assert says in str(refused.value)


def test_a_model_elsewhere_needs_a_key_and_one_of_this_machine_does_not(tmp_path: Path) -> None:
    for url in ("", ", url: 'https://models.example'"):
        with pytest.raises(BadInput, match="key_env or key_file"):
            load_models(written(tmp_path, f"a: {{api: openai, model: m{url}}}\n"))
    for url in ("http://localhost:1", "http://[::1]:1", "http://127.7.7.7:1"):
        assert load_models(written(tmp_path, f"a: {{api: openai, model: m, url: '{url}'}}\n")).named("a").key({}) == ""


@pytest.mark.parametrize(
    "content", [b"", b"short", b"two words here", b"\xff\xfe\x00", b"x" * 5000, b"line\nline-two-2"]
)
def test_what_is_no_key_is_never_sent(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    model = load_models(written(tmp_path, GOOD)).named("careful")
    with pytest.raises(BadInput, match="model careful") as refused:
        model.key({})
    assert "two words" not in str(refused.value)


def test_a_key_that_is_not_there_is_said(tmp_path: Path) -> None:
    models = load_models(written(tmp_path, GOOD))
    with pytest.raises(BadInput, match="cannot read"):
        models.named("careful").key({})
    with pytest.raises(BadInput, match="OPENAI_KEY"):
        models.named("quick").key({})
    assert "OPENAI_KEY" not in os.environ


@pytest.mark.parametrize("address", ["api.anthropic.com:443", "localhost:8000", "[::1]:8000", "GATEWAY.example.:8443"])
def test_no_grant_leads_to_a_models_server(tmp_path: Path, address: str) -> None:
    sites = tmp_path / "sites.yaml"
    sites.write_text(f'shop.example: {{ports: {{443: "{address}"}}}}\n')
    settings = Settings(models=written(tmp_path, GOOD), sites=sites)  # type: ignore[call-arg]  # the rest is usual
    with pytest.raises(Refused, match="leads to Signalbox itself"):
        wiring.directory(settings).address(Endpoint(host="shop.example", port=443))


def test_no_grant_leads_to_an_end_that_only_this_process_knows(tmp_path: Path) -> None:
    sites = tmp_path / "sites.yaml"
    sites.write_text('shop.example: {ports: {443: "127.0.0.1:41234"}}\n')
    settings = Settings(models=tmp_path / "none.yaml", sites=sites)  # type: ignore[call-arg]  # the rest is usual
    endpoint = Endpoint(host="shop.example", port=443)
    assert wiring.directory(settings).address(endpoint).port == 41234
    with pytest.raises(Refused, match="leads to Signalbox itself"):
        wiring.directory(settings, (Address(host="127.0.0.1", port=41234),)).address(endpoint)
