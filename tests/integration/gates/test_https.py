"""Gate kind `http` against a real TLS server: what it proved itself with is measured, and always verified."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.domain.directory import Directory, Site
from engine.domain.gate import Facts, HttpCheck, Sample
from engine.domain.states import Verdict
from engine.gates import kinds
from tests.doubles.authority import YEAR, Authority, key_pem, new_key
from tests.integration.gates.conftest import Pages
from tests.integration.gates.test_http import no_probe

FACTS = Facts(inputs={}, claims={}, digests={}, hosts={"shop": "shop.demo"})
ROOT = Authority("Test Root")
ISSUING = Authority("Test Issuing", ROOT)
KEY = new_key()
NAMES = ("shop.demo", "127.0.0.1")
LONG = "status == 200 && cert.days_left > 30.0"


class Answer(BaseHTTPRequestHandler):
    """Ends its connection after each answer: what it showed must be known after that too."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


Serve = Callable[[bytes], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers with a chain of certificates for KEY; gives the URL."""
    servers: list[ThreadingHTTPServer] = []

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A handshake that the other side gave up is what most of these tests are about."""

    def start(chain: bytes) -> str:
        file = tmp_path / f"{len(servers)}.pem"
        file.write_bytes(chain + key_pem(KEY))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        server = Quiet(("127.0.0.1", 0), Answer)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"https://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def chain(days: float, authority: Authority = ISSUING, names: tuple[str, ...] = NAMES) -> bytes:
    return authority.issue(KEY, names, days) + authority.pem


def measure(url: str, ca: Path | None, expect: str = LONG) -> Sample:
    site = Site(name="shop.demo", http_url=url, http_ca=str(ca) if ca else None)
    check = HttpCheck(id="served", target="shop", path="/", expect=expect, timeout_s=10)
    return kinds(Directory(sites={"shop.demo": site}), "")["http"](check, FACTS, no_probe)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The file of the authority that our site is verified with."""
    file = tmp_path / "ca.pem"
    file.write_bytes(ROOT.pem)
    return file


def test_the_condition_sees_what_the_server_proved_itself_with(serve: Serve, ca: Path) -> None:
    sample = measure(serve(chain(90)), ca)

    assert sample.verdict is Verdict.HELD, sample.why
    assert isinstance(sample.seen, dict)
    cert = sample.seen["cert"]
    assert isinstance(cert, dict)
    assert cert["days_left"] == pytest.approx(90, abs=0.01)
    assert cert["subject"] == "commonName=shop.demo"
    assert cert["issuer"] == "commonName=Test Issuing"
    assert cert["names"] == list(NAMES)
    assert int(str(cert["serial"]), 16) > 0


@pytest.mark.parametrize(
    ("expect", "verdict"),
    [
        ("cert.days_left > 30.0", Verdict.FAILED),
        ("cert.days_left < 30.0 && cert.days_left > 9.9", Verdict.HELD),
        ('cert.names.exists(name, name == "shop.demo")', Verdict.HELD),
        ('cert.names.exists(name, name == "other.demo")', Verdict.FAILED),
        ('cert.issuer == "commonName=Test Issuing"', Verdict.HELD),
        ("cert.colour == 1", Verdict.ERROR),
    ],
)
def test_one_that_ends_in_ten_days(serve: Serve, ca: Path, expect: str, verdict: Verdict) -> None:
    assert measure(serve(chain(10)), ca, expect).verdict is verdict


@pytest.mark.parametrize(
    ("served", "why"),
    [
        (chain(-1), "certificate has expired"),
        (chain(2 * YEAR), "certificate is not yet valid"),
        (chain(90, Authority("Somebody Else")), "self-signed certificate in certificate chain"),
        (ISSUING.issue(KEY, NAMES, 90), "unable to get local issuer certificate"),
        (chain(90, names=("other.demo",)), "IP address mismatch, certificate is not valid for '127.0.0.1'."),
    ],
    ids=["expired", "not yet", "another authority", "without its issuer", "another name"],
)
def test_one_that_does_not_verify_fails_whatever_is_asked(serve: Serve, ca: Path, served: bytes, why: str) -> None:
    sample = measure(serve(served), ca, "status != 200")

    assert sample.verdict is Verdict.FAILED
    assert sample.why == f"/ of shop: its certificate does not verify: {why}"


def test_without_an_authority_of_its_own_a_site_is_verified_with_those_of_the_system(serve: Serve) -> None:
    sample = measure(serve(chain(90)), None)

    assert sample.verdict is Verdict.FAILED
    assert "does not verify" in sample.why


def test_what_the_system_trusts_counts_only_for_a_site_without_an_authority_of_its_own(
    serve: Serve, ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = Authority("Trusted By The System")
    trusted = tmp_path / "system.pem"
    trusted.write_bytes(public.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    url = serve(chain(90, public))

    assert measure(url, None).verdict is Verdict.HELD
    assert measure(url, ca).verdict is Verdict.FAILED


def test_the_list_that_requests_brings_counts_for_nobody(
    serve: Serve, ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Authority("On The List")
    (tmp_path / "list.pem").write_bytes(listed.pem)
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "list.pem"))
    url = serve(chain(90, listed))

    assert measure(url, ca).verdict is Verdict.FAILED
    assert measure(url, None).verdict is Verdict.FAILED


@pytest.mark.parametrize("content", [None, b"no certificate\n", b""])
def test_an_authority_that_cannot_be_read_is_our_error_and_nobody_is_asked(
    serve: Serve, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "none.pem"
    if content is not None:
        file.write_bytes(content)

    sample = measure(serve(chain(90)), file)

    assert sample.verdict is Verdict.ERROR
    assert sample.why.startswith(f"http_ca {file}: ")
    assert "SIGNALBOX_SITES" in sample.why


def test_plain_http_has_no_certificate(pages: Pages, ca: Path) -> None:
    pages.answers["/"] = (200, b"{}")

    assert measure(pages.url, ca, "status == 200").verdict is Verdict.HELD
    assert measure(pages.url, ca, "cert == null").verdict is Verdict.HELD
    assert measure(pages.url, ca).verdict is Verdict.ERROR
