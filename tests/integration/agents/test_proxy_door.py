"""Who gets through a door of the model proxy, and what happens when it closes; over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from structlog.testing import capture_logs

from engine.agents.proxy import Door
from engine.domain.agent import Api, Usage
from tests.integration.agents.doors import BUDGET, MODEL, PATHS, Purse, asking, model, opened, post, proxy
from tests.integration.agents.provider import KEY, PATIENCE_S, Asked, Provider, Reply

each_api = pytest.mark.parametrize("api", tuple(Api))


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait on a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    tick = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        tick.wait(0.01)


@each_api
def test_a_request_reaches_the_model_with_the_real_key_and_is_counted(
    provider: Provider, tmp_path: Path, api: Api
) -> None:
    purse = Purse()
    with capture_logs() as logs, opened(model(api, provider.url, tmp_path), purse) as door:
        answer = post(door, asking(api))

    assert answer.status_code == 200
    assert "hello" in answer.text
    [asked] = provider.asked
    assert asked.path == PATHS[api]
    assert KEY in (asked.headers.get("x-api-key", ""), asked.headers.get("authorization", "").removeprefix("Bearer "))
    assert door.token not in str(asked)
    assert purse.added == [Usage(requests=1), Usage(tokens=120, microdollars=600)]
    [line] = [log for log in logs if log["event"] == "model call"]
    assert (line["model"], line["status"], line["tokens"], len(line["grant"])) == ("careful", 200, 120, 8)
    assert door.token not in str(logs)


def test_the_unix_socket_leads_to_the_same_and_is_ours_alone(provider: Provider, tmp_path: Path) -> None:
    with opened(model(Api.ANTHROPIC, provider.url, tmp_path)) as door:
        assert door.socket.parent.stat().st_mode & 0o777 == 0o700
        assert list(door.socket.parent.iterdir()) == [door.socket]
        client = http.client.HTTPConnection("model")
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.connect(str(door.socket))
        for _ in range(2):  # by one connection
            body = json.dumps(asking(Api.ANTHROPIC))
            client.request("POST", "/v1/messages?beta=true", body, {"x-api-key": door.token})
            answer = client.getresponse()
            assert (answer.status, b"hello" in answer.read()) == (200, True)
        client.close()
    assert not door.socket.parent.exists()


@pytest.mark.parametrize("token", ["", "wrong", KEY])
def test_another_token_opens_nothing(provider: Provider, tmp_path: Path, token: str) -> None:
    purse = Purse()
    with opened(model(Api.OPENAI, provider.url, tmp_path), purse) as door:
        answer = post(door, asking(Api.OPENAI), token=token)

    assert answer.status_code == 401
    assert (provider.asked, purse.added) == ([], [])


def test_the_token_of_one_step_opens_no_other_steps_door(provider: Provider, tmp_path: Path) -> None:
    entry = model(Api.OPENAI, provider.url, tmp_path)
    with opened(entry) as first, opened(entry) as second:
        assert post(second, asking(Api.OPENAI), token=first.token).status_code == 401


def test_another_model_is_refused_and_told(provider: Provider, tmp_path: Path) -> None:
    with opened(model(Api.OPENAI, provider.url, tmp_path)) as door:
        for named in ("huge-model-2", None, {"a": 1}):
            assert post(door, {**asking(Api.OPENAI), "model": named}).status_code == 403
        assert post(door, {**asking(Api.OPENAI), "model": "careful"}).status_code == 200  # its name in our file

    assert [asked.body["model"] for asked in provider.asked] == [MODEL]
    assert len(door.refusals) == 3
    assert "huge-model-2" in door.refusals[0]


@pytest.mark.parametrize(
    "path", ["/v1/responses", "/v1/files", "/v1/chat/completions/x", "/v1/../v1/chat/completions", "/", "/v1/models"]
)
def test_another_path_is_refused_and_told(provider: Provider, tmp_path: Path, path: str) -> None:
    with opened(model(Api.OPENAI, provider.url, tmp_path)) as door:
        client = http.client.HTTPConnection("127.0.0.1", door.port)
        client.request("POST", path, json.dumps(asking(Api.OPENAI)), {"Authorization": f"Bearer {door.token}"})
        assert client.getresponse().status == 404
        client.close()

    assert provider.asked == []
    assert path in door.refusals[0]


def test_a_cli_that_asks_which_models_there_are_is_told_the_one(provider: Provider, tmp_path: Path) -> None:
    with opened(model(Api.OPENAI, provider.url, tmp_path)) as door:
        url = f"http://127.0.0.1:{door.port}/v1/models"
        answer = requests.get(url, headers={"x-api-key": door.token}, timeout=20)
        assert [entry["id"] for entry in answer.json()["data"]] == [MODEL]
        assert requests.get(url, timeout=20).status_code == 401
    assert provider.asked == []


def test_an_expired_token_is_refused_and_what_was_under_way_ends(tmp_path: Path) -> None:
    release = threading.Event()

    def late() -> bytes:
        release.wait(PATIENCE_S)
        return b"data: {}\n\n"

    def script(_: Asked) -> Reply:
        return Reply(pieces=(b"data: {}\n\n", late), kind="text/event-stream")

    with Provider(script).running() as provider:
        with opened(model(Api.OPENAI, provider.url, tmp_path), lives_s=1.0) as door:
            with pytest.raises(requests.RequestException):
                post(door, asking(Api.OPENAI, stream=True))
            answer = post(door, asking(Api.OPENAI))
        release.set()

    assert answer.status_code == 403
    assert any("time" in refusal for refusal in door.refusals)
    assert len(provider.asked) == 1


def test_a_stream_that_drips_ends_with_the_steps_time(tmp_path: Path) -> None:
    """Something always comes, so no silence ends it."""
    left = threading.Event()

    def drop() -> bytes:
        left.wait(0.05)
        return b": thinking\n\n"

    with (
        Provider(lambda _: Reply(pieces=(drop,) * 400, kind="text/event-stream")).running() as provider,
        opened(model(Api.OPENAI, provider.url, tmp_path), lives_s=0.5) as door,
        pytest.raises(requests.RequestException),
    ):
        post(door, asking(Api.OPENAI, stream=True))
    left.set()

    assert any("time" in refusal for refusal in door.refusals)


@pytest.mark.parametrize("begun", [False, True])
def test_closing_cuts_what_is_under_way_and_counts_it(tmp_path: Path, *, begun: bool) -> None:
    """Before the provider said anything, and in the middle of a stream."""
    here, release = threading.Event(), threading.Event()

    def late() -> bytes:
        here.set()
        release.wait(PATIENCE_S)
        return b"data: {}\n\n"

    def script(_: Asked) -> Reply:
        if not begun:
            late()
        return Reply(pieces=(b"data: {}\n\n", late), kind="text/event-stream")

    purse = Purse()
    ended: list[Exception | int] = []

    def client(door: Door) -> None:
        try:
            ended.append(post(door, asking(Api.OPENAI, stream=True)).status_code)
        except requests.RequestException as error:
            ended.append(error)

    with Provider(script).running() as provider:
        with opened(model(Api.OPENAI, provider.url, tmp_path), purse) as door:
            thread = threading.Thread(target=client, args=(door,))
            thread.start()
            assert here.wait(PATIENCE_S)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 4
        counted = purse.used
        thread.join(PATIENCE_S)
        release.set()

    assert ended != [200]
    assert len(ended) == 1
    assert counted.requests == 1
    assert counted.tokens > 300
    assert purse.used == counted  # nothing is counted after the door is closed


def test_after_it_closed_nothing_listens(provider: Provider, tmp_path: Path) -> None:
    entry = model(Api.OPENAI, provider.url, tmp_path)
    doors = proxy(entry)
    with doors.door(model="careful", budget=BUDGET, used=Usage(), spend=Purse().spend, lives_s=60) as door:
        assert [end.port for end in doors.ends] == [door.port]
        kept = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)
        kept.request("GET", "/v1/models", headers={"x-api-key": door.token})
        assert kept.getresponse().read()
        assert kept.sock is not None
    assert kept.sock.recv(1) == b""  # a connection that was kept open is cut too
    kept.close()
    assert doors.ends == ()
    with pytest.raises(requests.ConnectionError):
        post(door, asking(Api.OPENAI))


def test_a_client_that_leaves_ends_the_request_and_it_is_counted(tmp_path: Path) -> None:
    came = threading.Event()

    def later() -> bytes:
        came.wait(PATIENCE_S)
        return b": " + b"x" * 100_000 + b"\n\n"

    def script(_: Asked) -> Reply:
        return Reply(pieces=(b"data: {}\n\n", *[later] * 40), kind="text/event-stream")

    purse = Purse()
    with Provider(script).running() as provider, opened(model(Api.OPENAI, provider.url, tmp_path), purse) as door:
        with post(door, asking(Api.OPENAI, stream=True), stream=True) as answer:
            next(answer.iter_content(1))
        came.set()
        wait_until(lambda: purse.used.tokens > 300)


def test_more_connections_than_a_step_needs_are_turned_away(provider: Provider, tmp_path: Path) -> None:
    entry = model(Api.OPENAI, provider.url, tmp_path)
    with opened(entry) as door, opened(entry) as other:
        held = [socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE_S) for _ in range(17)]
        assert held[-1].recv(1) == b""
        assert post(other, asking(Api.OPENAI)).status_code == 200  # another step does not notice
        for one in held:
            one.close()


def test_refusals_are_bounded_and_one_line_each(provider: Provider, tmp_path: Path) -> None:
    with opened(model(Api.OPENAI, provider.url, tmp_path)) as door:
        for _ in range(105):
            post(door, {"model": "\n\x1b[31m" + "x" * 1000})
    assert len(door.refusals) == 101
    assert all(len(refusal) <= 160 and refusal.isprintable() for refusal in door.refusals)
