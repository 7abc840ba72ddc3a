"""certificate-expiry: the certificate of `shop` runs out in two days; the company's CA has renewed it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509

from demo.world.service import Service
from demo.world.target import Target
from engine.domain.errors import Unavailable
from tests.doubles.authority import Authority, key_pem, new_key
from tests.library.case import Bad, Case, Edit

NAMES = ("shop.demo", "staging.shop.demo", "production.shop.demo", "127.0.0.1")
RUN = b"#!/bin/sh\n# Runs `shop`.\nexec /usr/bin/python3 -IS /run/world/shop.py\n"

ROOT = Authority("Company Root")
ISSUING = Authority("Company Issuing", ROOT)
SOMEBODY = Authority("Somebody Else")
KEY, OTHER_KEY = new_key(), new_key()
OLD = ISSUING.issue(KEY, NAMES, 2) + ISSUING.pem
RENEWED = ISSUING.issue(KEY, NAMES, 90) + ISSUING.pem
PUBLISHED: Mapping[str, bytes] = {
    "/renewed/shop.pem": RENEWED,
    "/renewed/for-another-key.pem": ISSUING.issue(OTHER_KEY, NAMES, 90) + ISSUING.pem,
    "/renewed/for-ten-days.pem": ISSUING.issue(KEY, NAMES, 10) + ISSUING.pem,
    "/renewed/by-somebody-else.pem": SOMEBODY.issue(KEY, NAMES, 90) + SOMEBODY.pem,
}


class Page(BaseHTTPRequestHandler):
    """What the CA publishes."""

    def do_GET(self) -> None:
        """One file."""
        body = PUBLISHED.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Requests are not logged."""


@contextlib.contextmanager
def issuer() -> Iterator[Mapping[str, object]]:
    """The CA's page, and its entry of the directory."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield {"ca.shop.demo": {"ports": {8080: f"127.0.0.1:{server.server_port}"}}}
    finally:
        server.shutdown()
        server.server_close()


def data(_env: str) -> Mapping[str, bytes]:
    """The same on both."""
    return {
        "shop/tls/chain.pem": OLD,
        "shop/tls/key.pem": key_pem(KEY),
        "shop/log/app.log": b"2026-01-01T00:00:00Z INFO started\n",
    }


def gone(target: Target) -> bool:
    """The renewed certificate is served, and the key is read by nobody but the service."""
    context = ssl.create_default_context(cadata=ROOT.pem.decode())
    try:
        with (
            socket.create_connection(("127.0.0.1", target.http_port), timeout=10) as connection,
            context.wrap_socket(connection, server_hostname="production.shop.demo") as session,
        ):
            served = session.getpeercert(binary_form=True) or b""
    except OSError as error:
        raise Unavailable(f"shop does not serve: {error}", "") from None
    read = target.run("reader", "cat /srv/shop/tls/key.pem")
    return x509.load_der_x509_certificate(served) == x509.load_pem_x509_certificate(RENEWED) and read.returncode != 0


def _published(name: str) -> Edit:
    """The fix takes another certificate."""
    return Edit(path="certificate-expiry/fix.py", old="/renewed/shop.pem", new=f"/renewed/{name}.pem")


CASE = Case(
    runbook="certificate-expiry",
    broke="a certificate that runs out in two days",
    service=Service(
        name="shop",
        settings=lambda _env: {},
        data=data,
        files={"service.sh": RUN, "shop.py": Path(__file__).with_name("services").joinpath("shop.py").read_bytes()},
        watched=False,
        ca=ROOT.pem,
    ),
    labels={"alertname": "CertificateExpiring", "severity": "warning", "env": "production"},
    gone=gone,
    others=issuer,
    bad=(
        Bad(
            name="a certificate of another CA",
            edits=(_published("by-somebody-else"),),
            gate="tests-pass",
            check="served",
        ),
        Bad(
            name="a certificate for another key, which the service does not take",
            edits=(
                _published("for-another-key"),
                Edit(path="certificate-expiry/fix.py", old=' != diagnosis["public_key"]:', new=' == "":'),
            ),
            gate="tests-pass",
            check="served",
        ),
        Bad(
            name="a certificate that runs out in ten days",
            edits=(_published("for-ten-days"),),
            gate="tests-pass",
            check="served",
        ),
        Bad(
            name="the files are right, and the service still serves the old ones",
            edits=(Edit(path="certificate-expiry/apply.sh", old="touch reload\n", new="echo reloaded\n"),),
            gate="tests-pass",
            check="served",
        ),
    ),
)
