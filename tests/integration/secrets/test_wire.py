"""What goes over the wire when the other side is slow, mute, elsewhere or hostile: a real HTTP server plays it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.domain.errors import BadInput, Refused, SignalboxError, Unavailable
from engine.secrets import vault as vault_module
from engine.secrets.connection import VaultConnection, connect_to
from engine.secrets.vault import NoAnswer, Vault


class FastClock:
    """Sleeps are remembered, not slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclasses.dataclass
class Stranger:
    """A server that answers as told and remembers what it was sent."""

    url: str
    seen: list[tuple[str, str, dict[str, str]]]
    answer: Callable[[BaseHTTPRequestHandler], None]


def _say(status: int, body: bytes = b"{}", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """On loopback."""
    found = Stranger("", [], _say(200))

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.seen.append((self.command, self.path, dict(self.headers)))
            found.answer(self)

        do_GET = do_POST = do_LIST = do_DELETE = handle_any  # noqa: N815  # the names that http.server wants

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def vault(stranger: Stranger) -> Iterator[Vault]:
    with Vault(connect_to(stranger.url), FastClock()) as found:
        yield found


def test_a_redirect_is_not_followed(stranger: Stranger, vault: Vault) -> None:
    """Elsewhere would get our token."""
    stranger.answer = _say(307, Location=f"{stranger.url}/elsewhere")
    with pytest.raises(Unavailable, match="307"):
        vault.read("s.token", "kv/data/x")
    assert [path for _, path, _ in stranger.seen] == ["/v1/kv/data/x"]


def test_the_environment_changes_nothing(stranger: Stranger, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """No developer's token is sent, no proxy is used, no other address is asked."""
    for name, value in {
        "VAULT_TOKEN": "s.root",
        "VAULT_ADDR": "http://127.0.0.1:1",
        "VAULT_NAMESPACE": "elsewhere",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    vault.health()
    ((_, _, headers),) = stranger.seen
    assert "X-Vault-Token" not in headers
    assert "X-Vault-Namespace" not in headers


def test_a_mute_server_is_given_up_soon_and_a_mint_is_sent_once(
    stranger: Stranger, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second mint would make a second token; a question may be asked twice."""
    monkeypatch.setattr(vault_module, "_TIMEOUT", (0.5, 0.2))
    done = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        done.wait(10)

    stranger.answer = hang
    begun = time.monotonic()
    with pytest.raises(NoAnswer) as silence:
        vault.mint("s.token", "op-step", {})
    assert silence.value.begun
    assert len(stranger.seen) == 1
    with pytest.raises(NoAnswer):
        vault.lookup("s.token", "accessor")
    assert len(stranger.seen) == 3
    assert time.monotonic() - begun < 5
    done.set()


def test_a_server_that_is_not_there_is_tried_four_times(tmp_path: Path) -> None:
    """With pauses that grow; nothing was begun, so a mint may be tried again too."""
    clock = FastClock()
    with Vault(VaultConnection(socket=tmp_path / "none.sock"), clock) as vault, pytest.raises(NoAnswer) as silence:
        vault.mint("s.token", "op-step", {})
    assert not silence.value.begun
    assert len(clock.slept) == 3
    assert clock.slept[0] < clock.slept[2]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Refused),
        (403, Refused),
        (404, Refused),
        (405, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (418, Unavailable),
    ],
)
def test_every_status_has_a_word_and_a_remedy_and_keeps_the_body_to_itself(
    stranger: Stranger, vault: Vault, status: int, error: type[SignalboxError]
) -> None:
    """What Vault wrote may hold secrets: it is neither in the message nor in the exception's chain."""
    stranger.answer = _say(status, b'{"errors": ["hunter2pw in the body"], "data": {"x": "hunter2pw"}}')
    with pytest.raises(error) as trouble:
        vault.read("s.token", "kv/data/x")
    assert trouble.value.remedy
    assert "hunter2pw" not in str(trouble.value)
    assert trouble.value.__context__ is None
    assert trouble.value.__cause__ is None


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"auth": null}', b'{"auth": {"client_token": "x"}}'])
def test_an_answer_that_is_no_answer_is_unavailable(stranger: Stranger, vault: Vault, body: bytes) -> None:
    """A captive portal, a wrong port."""
    stranger.answer = _say(200, body)
    with pytest.raises(Unavailable):
        vault.mint("s.token", "op-step", {})


@pytest.mark.parametrize(
    "address",
    [
        "http://vault.example.org:8200",
        "https://",
        "vault.example.org",
        "ftp://127.0.0.1",
        "unix://relative",
        "https://user:pw@vault.example.org",
        "http://127.0.0.1.evil.example:8200",
        "",
    ],
)
def test_an_unsafe_address_is_refused(address: str) -> None:
    """Secrets travel by TLS, loopback or unix socket only; the message does not repeat a password."""
    with pytest.raises(BadInput) as refusal:
        connect_to(address)
    assert "pw" not in str(refusal.value)


@pytest.mark.parametrize("address", ["https://vault.example.org:8200/", "http://localhost:8200", "unix:///run/x.sock"])
def test_a_safe_address_is_taken(address: str) -> None:
    """As written, without a trailing slash."""
    assert connect_to(address).shown == address.rstrip("/")
