"""Inside a step's VM the declared host:port answers; other addresses, the host's other ports, other VMs, DNS do not.

Nor does a redirect, a datagram, IPv6, a raw socket or a declared name that leads to where no name may lead change that.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.domain.ports import Ending, FileIn, Reach, TaskResult
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import task
from tests.plugins_vm import Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

SIZE = 3_000_000

# Tries every way out that a program has, and prints what came of each.
EXPLORER = r"""
import hashlib, json, os, socket, struct, subprocess, sys
other = int(sys.argv[1]); told = {}

def dial(address, port):
    try:
        with socket.create_connection((address, port), timeout=10) as s:
            s.settimeout(10); s.sendall(b"GET / HTTP/1.0\r\n\r\n"); s.shutdown(socket.SHUT_WR)
            data = b""
            while piece := s.recv(65536): data += piece
            return "%d bytes %s" % (len(data), hashlib.sha256(data).hexdigest()) if data else "closed"
    except OSError as error: return "refused: %s" % error

def proxied(line):
    with socket.create_connection(("127.0.0.1", 3128), timeout=10) as s:
        s.sendall(line.encode() + b"\r\n\r\n"); return s.makefile("rb").readline().decode().strip()

def datagram(family, address):
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as s: s.sendto(b"x", (address, 53)); return "sent"
    except OSError as error: return "refused: %s" % error

def raw(*kind):
    try: socket.socket(*kind).close(); return "opened"
    except OSError as error: return "refused: %s" % error

def fetch(url, *more):
    command = ["curl", "-sS", "-L", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", *more, url]
    done = subprocess.run(command, capture_output=True, text=True)
    return [done.stdout, done.returncode]

def dns(address):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(2); s.connect((address, 53)); s.send(b"\0\1\1\0\0\1" + b"\0" * 6 + b"\7example\3org\0\0\1\0\1")
            return "answered: %r" % s.recv(512)
    except OSError as error: return "refused: %s" % error

def dial_vsock(port):
    try:
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as s: s.connect((2, port)); return "open"
    except OSError as error: return "refused: %s" % error

def resolve(name):
    try: return socket.gethostbyname(name)
    except OSError: return "unresolved"

told["declared"] = dial("service.test", 8080)
curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://service.test:8080/"]
told["declared, by curl"] = subprocess.run(curl, capture_output=True, text=True).stdout
told["declared, CONNECT"] = proxied("CONNECT service.test:8080 HTTP/1.1")
told["declared but nobody there"] = dial("silent.test", 9)
told["address of service.test"] = resolve("service.test")
told["no"] = {
    "same name, other port": dial("service.test", 8081),
    "the host's other port, by its loopback": dial("127.0.0.1", other),
    "the host's other port, by the listener": dial(resolve("service.test"), other),
    "slirp's gateway": dial("10.0.2.2", other),
    "metadata": dial("169.254.169.254", 80),
    "another VM": dial("192.168.122.2", 22),
    "the internet": dial("93.184.216.34", 80),
    "udp 4": datagram(socket.AF_INET, "8.8.8.8"),
    "udp 6": datagram(socket.AF_INET6, "2001:4860:4860::8888"),
    "udp to a resolver on loopback": dns("127.0.0.1"),
    "udp to the listener": dns(resolve("service.test")),
    "tcp 6": dial("2606:4700:4700::1111", 53),
    "the host's other port, by ::1": dial("::1", other),
    "the host's other port, mapped": dial("::ffff:127.0.0.1", other),
    "raw icmp": raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "raw tcp": raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
    "raw ipv6": raw(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    "packets": raw(socket.AF_PACKET, socket.SOCK_RAW),
    "vsock to the host": dial_vsock(other),
    "a declared name that leads to the host": dial("inner.test", 80),
}
told["redirects"] = {}
for where in ("http://127.0.0.1:%d/" % other, "http://169.254.169.254/latest/", "http://example.org/",
              "http://inner.test/", "http://service.test:8081/"):
    to = "http://service.test:8080/to?" + where
    told["redirects"][where] = [fetch(to), fetch(to, "--noproxy", "*")]
told["redirect to itself"] = fetch("http://service.test:8080/to?http://service.test:8080/")
told["403"] = [proxied("CONNECT %s HTTP/1.1" % t) for t in (
    "service.test:%d" % other, "127.0.0.1:%d" % other, "localhost:%d" % other, "10.0.2.2:22", "169.254.169.254:80",
    "example.org:443", "[::1]:%d" % other, "service.test.:8081", "service.test@127.0.0.1:%d" % other)]
told["names"] = [resolve(n) for n in ("example.org", "host.docker.internal", "other.test", "gateway")]
told["routes"] = open("/proc/net/route").read().splitlines()[1:]
print(json.dumps(told))
"""


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        request = self.rfile.readline().decode()
        while self.rfile.readline().strip():
            pass
        self.server.asked += 1  # type: ignore[attr-defined]  # a counter on our own server
        if "/to?" in request:
            self.wfile.write(f"HTTP/1.0 302 Found\r\nLocation: {request.split()[1].partition('?')[2]}\r\n\r\n".encode())
            return
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * SIZE)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    asked = 0


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[_Server, _Server]]:
    """One that is declared, one that is not: both on the host's loopback."""
    with _Server(("127.0.0.1", 0), _Answer) as declared, _Server(("127.0.0.1", 0), _Answer) as other:
        for server in (declared, other):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield declared, other
        for server in (declared, other):
            server.shutdown()


@pytest.fixture(scope="module")
def explored(hypervisor: LibvirtHypervisor, servers: tuple[_Server, _Server]) -> tuple[dict[str, Any], TaskResult]:
    """What the explorer found, and what the host recorded."""
    declared, other = (server.server_address[1] for server in servers)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    result = hypervisor.run(
        task(
            "python3",
            "/step/explore.py",
            str(other),
            timeout_s=120,
            files=(FileIn(path="/step/explore.py", content=EXPLORER.encode()),),
            reaches=(
                Reach(host="service.test", port=8080, address="127.0.0.1", address_port=declared),
                Reach(host="silent.test", port=9, address="127.0.0.1", address_port=nobody),
                Reach(host="inner.test", port=80, address="localhost", address_port=other, private=True),
            ),
        ),
        Plain(),
        print,
    )
    assert (result.ending, result.code) == (Ending.EXITED, 0), result.stderr
    return json.loads(result.stdout), result


def test_the_declared_host_and_port_answers(
    explored: tuple[dict[str, Any], TaskResult], servers: tuple[_Server, _Server]
) -> None:
    """Three megabytes arrive whole; programs that honour http_proxy and programs that know none both get through."""
    told, _ = explored
    assert told["declared"].startswith(f"{SIZE + 19} bytes")
    assert told["declared, by curl"] == "200"
    assert told["declared, CONNECT"] == "HTTP/1.1 200 OK"
    assert told["address of service.test"] == "127.77.0.1"
    assert servers[0].asked >= 2


def test_nothing_else_answers(explored: tuple[dict[str, Any], TaskResult], servers: tuple[_Server, _Server]) -> None:
    """No other port, no other address, no datagram, no name; the undeclared server never heard of us."""
    told, _ = explored
    assert {what: answer for what, answer in told["no"].items() if not answer.startswith("refused: ")} == {}
    assert set(told["403"]) == {"HTTP/1.1 403 Forbidden"}
    assert set(told["names"]) == {"unresolved"}
    assert told["routes"] == []
    assert servers[1].asked == 0


def test_every_connection_that_the_host_saw_is_recorded(
    explored: tuple[dict[str, Any], TaskResult], servers: tuple[_Server, _Server]
) -> None:
    """Allowed ones with their bytes, refused ones with the reason, and the one that nobody answered."""
    _, result = explored
    allowed = [row for row in result.connections if row.allowed]
    assert [(row.host, row.port) for row in allowed[:4]] == [("service.test", 8080)] * 3 + [("silent.test", 9)]
    assert allowed[0].bytes_down == SIZE + 19
    assert allowed[0].bytes_up == 18
    assert allowed[0].seconds > 0
    assert "could not connect" in allowed[3].error
    refused = {(row.host, row.port): row for row in result.connections if not row.allowed}
    assert len(refused) == len([row for row in result.connections if not row.allowed])
    counts = {row: refused[row].count for row in refused if refused[row].error == "not declared for this step"}
    assert counts.pop(("169.254.169.254", 80)) == 2  # by CONNECT, and by a redirect
    assert counts.pop(("example.org", 80)) == 1
    assert counts.pop(("127.0.0.1", servers[1].server_address[1])) == 2
    assert counts.pop(("service.test", 8081)) == 2
    assert len(counts) == 6


def test_a_redirect_is_another_connection_and_judged_as_one(explored: tuple[dict[str, Any], TaskResult]) -> None:
    """By the proxy it is a 403, without it there is nobody; one that leads back to what is declared is followed."""
    told, _ = explored
    for where, (proxied, direct) in told["redirects"].items():
        assert proxied == ["403 1", 0], where
        assert direct[0] in {"302 1", "000 1"}, where  # the answer that led there, or none
        assert direct[1] in {6, 7, 52, 56}, where  # no such name, refused, empty answer, reset
    assert told["redirect to itself"] == ["200 1", 0]


def test_a_declared_name_that_leads_to_this_machine_is_refused_and_recorded(
    explored: tuple[dict[str, Any], TaskResult],
) -> None:
    """`localhost` in the directory is a name; the real resolver says where it leads. Not even `private` covers that."""
    _, result = explored
    (row,) = [row for row in result.connections if row.host == "inner.test"]
    assert (row.allowed, row.bytes_up, row.bytes_down, row.count) == (False, 0, 0, 3)
    assert re.fullmatch(r"the name leads to \S+, a loopback address", row.error)
