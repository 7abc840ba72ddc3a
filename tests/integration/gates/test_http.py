"""Gate kind `http` against a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.domain.directory import Directory, Site
from engine.domain.gate import Facts, HttpCheck, Sample
from engine.domain.ports import ProbeAnswer
from engine.domain.states import Verdict
from engine.gates import kinds, web
from tests.integration.gates.conftest import Pages

FACTS = Facts(inputs={"name": "../admin?x=1#"}, claims={}, digests={}, hosts={"staging": "staging.demo"})
HEALTHY = HttpCheck(
    id="answers", target="staging", path="/healthz", expect="status == 200 && json.ok == true", timeout_s=5
)


def no_probe(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
    raise AssertionError("this kind must not run a command")


def measure(url: str, check: HttpCheck = HEALTHY) -> Sample:
    directory = Directory(sites={"staging.demo": Site(name="staging.demo", http_url=url)})
    return kinds(directory, "")["http"](check, FACTS, no_probe)


def test_a_healthy_service_holds(pages: Pages) -> None:
    pages.answers["/healthz"] = (200, b'{"ok": true}')

    sample = measure(pages.url)

    assert sample.verdict is Verdict.HELD
    assert isinstance(sample.seen, dict)
    assert (sample.seen["status"], sample.seen["body"]) == (200, '{"ok": true}')


@pytest.mark.parametrize(
    ("status", "body"), [(500, b'{"ok": true}'), (200, b'{"ok": false}'), (503, b"down"), (204, b"")]
)
def test_an_unwell_service_does_not_hold(pages: Pages, status: int, body: bytes) -> None:
    pages.answers["/healthz"] = (status, body)

    assert measure(pages.url).verdict in {Verdict.FAILED, Verdict.ERROR}


@pytest.mark.parametrize("body", [b"ok", b'"ok"', b"null", b'{"ok": "true"}', b"\xff\xfe"])
def test_a_body_that_is_not_what_was_expected_does_not_hold(pages: Pages, body: bytes) -> None:
    pages.answers["/healthz"] = (200, body)

    assert measure(pages.url).verdict in {Verdict.FAILED, Verdict.ERROR}


def test_a_service_that_refuses_the_connection_fails() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        sample = measure(f"http://127.0.0.1:{free.getsockname()[1]}")

    assert sample.verdict is Verdict.FAILED
    assert "Connection refused" in sample.why


def test_a_service_that_hangs_fails_in_time(pages: Pages) -> None:
    begun = time.monotonic()
    sample = measure(pages.url, replace(HEALTHY, timeout_s=1))

    assert (sample.verdict, sample.why) == (Verdict.FAILED, "/healthz of staging: no answer within 1 s")
    assert time.monotonic() - begun < 4


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server that sends a byte of a header now and then and never comes to an end."""
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not over.wait(0.1):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    over.set()
    thread.join(5)
    server.close()


def test_a_server_that_drips_its_headers_cannot_hold_a_gate(dripping: str) -> None:
    begun = time.monotonic()

    assert measure(dripping, replace(HEALTHY, timeout_s=1)).verdict is Verdict.FAILED
    assert time.monotonic() - begun < 4


def test_redirects_are_not_followed(pages: Pages) -> None:
    pages.answers |= {"/healthz": (302, b""), "/elsewhere": (200, b'{"ok": true}')}
    pages.headers["Location"] = f"{pages.url}/elsewhere"

    assert measure(pages.url).verdict is not Verdict.HELD
    assert pages.asked == ["/healthz"]


def test_a_proxy_of_the_environment_is_not_used(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    pages.answers["/healthz"] = (200, b'{"ok": true}')

    assert measure(pages.url).verdict is Verdict.HELD


def test_an_answer_that_is_too_large_is_an_error(pages: Pages) -> None:
    pages.answers["/healthz"] = (200, b"x" * (web.MAX_BODY + 1))

    sample = measure(pages.url)

    assert (sample.verdict, sample.why) == (Verdict.ERROR, "/healthz of staging: more than 256 KiB")


def test_compressed_bodies_are_not_unpacked(pages: Pages) -> None:
    """A small answer must not become a large one."""
    pages.headers["Content-Encoding"] = "gzip"
    pages.answers["/healthz"] = (200, b"\x1f\x8b\x08" + b"\x00" * 50)

    assert measure(pages.url).verdict is not Verdict.HELD


def test_an_input_stays_one_part_of_the_path(pages: Pages) -> None:
    pages.answers["/items/..%2Fadmin%3Fx%3D1%23"] = (200, b"")

    sample = measure(pages.url, replace(HEALTHY, path="/items/{{ inputs.name }}", expect="status == 200"))

    assert sample.verdict is Verdict.HELD


def test_a_body_that_breaks_off_fails(pages: Pages) -> None:
    pages.answers["/healthz"] = (200, b'{"ok": true}')
    pages.headers["Content-Length"] = "500"

    assert measure(pages.url, replace(HEALTHY, timeout_s=2)).verdict is Verdict.FAILED
