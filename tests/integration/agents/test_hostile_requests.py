"""Whatever else comes to the model server gets a clear error, and the server goes on."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from engine.agents.replay import ReplayServer, Request, ScriptedModel, Turn, say
from engine.agents.replay.server import MOST_BYTES
from engine.agents.replay.wires import WIRES

GOOD = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "go"}], "input": "go"}
PATHS = tuple(WIRES)


@pytest.fixture(name="server")
def a_server() -> Iterator[ReplayServer]:
    with ReplayServer(ScriptedModel([say("well")]), key="right") as server:
        yield server
        assert _post(server, PATHS[0], json.dumps(GOOD).encode())[0] == 200  # whatever came, it still answers


def _post(
    server: ReplayServer, path: str, body: bytes, key: str = "right", method: str = "POST"
) -> tuple[int, dict[str, dict[str, str]]]:
    line = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    try:
        line.request(method, path, body, {"x-api-key": key})
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        line.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "EOF while parsing"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[" * 100_000, "recursion limit exceeded"),
        (b"[]", "Input should be an object"),
        (b"{}", "model: Field required"),
        (json.dumps(GOOD | {"stream": "yes"}).encode(), "stream: Input should be a valid boolean"),
        (json.dumps(GOOD | {"messages": 1, "input": 1}).encode(), "Input should be a valid"),
        (json.dumps(GOOD | {"messages": [{"role": "pope"}], "input": [{"type": "video"}]}).encode(), ".0"),
    ],
)
def test_what_is_no_request(server: ReplayServer, path: str, body: bytes, told: str) -> None:
    """It is said where it is wrong, in the vendor's own form."""
    status, answer = _post(server, path, body)

    assert status == 400
    assert told in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"
    assert server.requests == []


@pytest.mark.parametrize("path", PATHS)
def test_more_than_text_is_refused(server: ReplayServer, path: str) -> None:
    """A picture is nothing that a tape can be matched with."""
    picture = [{"role": "user", "content": [{"type": "image"}]}]
    status, answer = _post(server, path, json.dumps(GOOD | {"messages": picture, "input": picture}).encode())

    assert status == 400
    assert "content" in answer["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_key(server: ReplayServer, path: str) -> None:
    """401, and the model is not asked."""
    status, answer = _post(server, path, json.dumps(GOOD).encode(), key="wröng")

    assert (status, answer["error"]["message"]) == (401, "this key opens nothing here")
    assert server.requests == []


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/v2/x", 404), ("GET", PATHS[0], 405)])
def test_another_path_or_method(server: ReplayServer, method: str, path: str, status: int) -> None:
    """The answer lists what there is."""
    got, answer = _post(server, path, b"{}", method=method)

    assert got == status
    assert all(each in answer["error"]["message"] for each in PATHS)


@pytest.mark.parametrize(
    ("head", "status", "told"),
    [
        (f"Content-Length: {MOST_BYTES + 1}", b"413", b"the most is 8,388,608"),
        (f"Content-Length: {'9' * 5000}", b"413", b"the most is 8,388,608"),
        ("Content-Length: -1", b"400", b"says how long it is"),
        ("Transfer-Encoding: chunked", b"400", b"says how long it is"),
    ],
)
def test_a_body_of_no_honest_length(server: ReplayServer, head: str, status: bytes, told: bytes) -> None:
    """Nothing of it is read; the connection ends."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as line:
        line.sendall(f"POST {PATHS[0]} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert told in answer


def test_a_function_that_breaks() -> None:
    """Its client learns how, by an error of the server."""

    def broken(request: Request) -> Turn:
        raise AssertionError(f"no tool of {request.tools}")

    with ReplayServer(ScriptedModel(broken)) as server:
        status, answer = _post(server, PATHS[0], json.dumps(GOOD).encode())

    assert (status, answer["error"]["type"]) == (500, "api_error")
    assert answer["error"]["message"] == "the model broke: AssertionError: no tool of ()"


def test_a_client_that_says_nothing_more_does_not_hold_up_the_end() -> None:
    """Half a request is open when the server closes."""
    with ReplayServer(ScriptedModel([say("well")])) as server:
        line = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10)
        line.sendall(f"POST {PATHS[0]} HTTP/1.1\r\nContent-Length: 10\r\n\r\n{{".encode())
    with line:
        line.settimeout(10)
        with suppress(ConnectionResetError):
            line.recv(65536)  # returns: the other side is closed
