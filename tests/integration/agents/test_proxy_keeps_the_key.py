"""What a provider says of our key never comes back; its errors do, bounded."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.agents.proxy.upstream import Mask
from engine.domain.agent import Api, Usage
from tests.integration.agents.doors import Purse, asking, model, opened, post
from tests.integration.agents.provider import KEY, Asked, Provider, Reply

each_api = pytest.mark.parametrize("api", tuple(Api))


def _echo(kind: str, status: int) -> Callable[[Asked], Reply]:
    """Says every header that it got, in its own headers too, and cuts the key in two."""

    def script(asked: Asked) -> Reply:
        said = f"data: {json.dumps({'echo': asked.headers})}\n\n".encode()
        at = said.index(KEY.encode()) + 9
        headers = {"X-Echo": KEY, "Set-Cookie": f"key={KEY}", "Retry-After": KEY}
        return Reply(pieces=(said[:at], said[at:], KEY.encode()[:-1]), kind=kind, status=status, headers=headers)

    return script


@each_api
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
def test_a_provider_that_echoes_headers_gives_no_key_away(tmp_path: Path, api: Api, kind: str, status: int) -> None:
    with (
        Provider(_echo(kind, status)).running() as provider,
        capture_logs() as logs,
        opened(model(api, provider.url, tmp_path)) as door,
    ):
        answer = post(door, asking(api))

    assert KEY in str(provider.asked)
    seen = f"{answer.text} {answer.headers} {logs} {door.refusals}"
    assert KEY not in seen
    assert base64.b64encode(KEY.encode()).decode() not in seen
    assert answer.status_code == (502 if status == 401 else status)
    if status != 401:
        assert "(key)" in answer.text
        assert answer.content.endswith(KEY.encode()[:-1])  # what only begins like it is passed on


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_mask_finds_a_key_wherever_it_is_cut(size: int) -> None:
    text = b"aab" + b"aabaab!" + b"aabaab!" + b"aabaabaab!aab"
    mask = Mask("aabaab!")
    pieces = [mask.feed(text[at : at + size]) for at in range(0, len(text), size)]

    assert b"".join([*pieces, mask.end()]) == text.replace(b"aabaab!", b"(key)")


def test_redirects_are_not_followed(provider: Provider, tmp_path: Path) -> None:
    def script(_: Asked) -> Reply:
        return Reply(status=307, headers={"Location": f"{provider.url}/v1/chat/completions"})

    with Provider(script).running() as first, opened(model(Api.OPENAI, first.url, tmp_path)) as door:
        answer = post(door, asking(Api.OPENAI), allow_redirects=False)

    assert answer.status_code == 502
    assert "redirects" in answer.json()["error"]["message"]
    assert provider.asked == []


def test_a_provider_error_passes_bounded_and_costs_a_request_only(tmp_path: Path) -> None:
    purse = Purse()

    def script(_: Asked) -> Reply:
        return Reply(status=529, pieces=(b'{"error": "overloaded"}', b" " * 200_000), headers={"Retry-After": "7"})

    with Provider(script).running() as provider, opened(model(Api.OPENAI, provider.url, tmp_path), purse) as door:
        answer = post(door, asking(Api.OPENAI))

    assert (answer.status_code, answer.headers["Retry-After"]) == (529, "7")
    assert "overloaded" in answer.text
    assert len(answer.content) <= 64 << 10
    assert purse.used == Usage(requests=1)


def test_a_provider_that_is_not_there_is_said(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        entry = model(Api.OPENAI, f"http://127.0.0.1:{nobody.getsockname()[1]}", tmp_path)
        purse = Purse()
        with opened(entry, purse) as door:
            answer = post(door, asking(Api.OPENAI))

    assert answer.status_code == 502
    assert "cannot be reached" in answer.json()["error"]["message"]
    assert purse.used == Usage(requests=1)
