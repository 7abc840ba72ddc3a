"""The ways that are open: the egress proxy on loopback, its doors, and the requests behind them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from pathlib import Path

from tests.integration.runtime.escapes.attempt import TOLD, Escaped, attempt, each, port_number, the_port

PROXY = ("127.0.0.1", 3128)
CANARY: int = TOLD.get("canary", 0)
SERVICE: int = TOLD.get("service", 0)
OPEN, STDOUT, OK, FILE, OPENED, EXIT, DATA = 16, 7, 14, 12, 17, 9, 13


def send(request: bytes, *, more: bytes = b"") -> bytes:
    """What the proxy answers, to the end, or the beginning of it."""
    with socket.create_connection(PROXY, timeout=20) as connection:
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(request)
            connection.sendall(more)
            connection.shutdown(socket.SHUT_WR)
            while len(answer) < 65536 and (piece := connection.recv(65536)):
                answer += piece
        return answer


def refused(request: bytes) -> str:
    """Raises OSError with the first line of a refusal."""
    first = send(request).partition(b"\r\n")[0].decode("latin1")
    if first in {"HTTP/1.1 403 Forbidden", "HTTP/1.1 400 Bad Request", ""}:
        raise OSError(0, first or "closed without an answer")
    return first


@attempt("CONNECT to what is not declared", "other ports, the host by many names, metadata, a name with userinfo")
def connect() -> str:
    targets = (
        f"127.0.0.1:{CANARY}",
        f"localhost:{CANARY}",
        f"[::1]:{CANARY}",
        f"127.0.0.1:{SERVICE}",
        "10.0.2.2:22",
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "example.org:443",
        "service.test:8081",
        "SERVICE.TEST.:8081",
        f"service.test@127.0.0.1:{CANARY}",
        f"service.test#@127.0.0.1:{CANARY}",
        f"2130706433:{CANARY}",
        f"0x7f.1:{CANARY}",
        f"[::ffff:127.0.0.1]:{CANARY}",
        f"service.test.nip.io:{CANARY}",
    )
    return each(targets, lambda target: refused(f"CONNECT {target} HTTP/1.1\r\nHost: service.test\r\n\r\n".encode()))


@attempt("absolute URIs", "http:// and other schemes to what is not declared")
def absolute() -> str:
    uris = (
        f"http://127.0.0.1:{CANARY}/",
        "http://169.254.169.254/latest/meta-data/",
        f"http://service.test:8080@127.0.0.1:{CANARY}/",
        f"http://127.0.0.1:{CANARY}#service.test:8080/",
        f"HTTP://127.0.0.1:{CANARY}/",
        "https://service.test:8080/",
        "file:///etc/passwd",
        "unix:/run/libvirt/libvirt-sock",
        "/",
        "//service.test:8080/",
    )
    return each(uris, lambda uri: refused(f"GET {uri} HTTP/1.1\r\nHost: service.test:8080\r\n\r\n".encode()))


@attempt("requests that are none", "odd lines, ports, bytes, versions; a header of 70 kB; no end of headers")
def malformed() -> str:
    lines = (
        b"CONNECT service.test HTTP/1.1",
        b"CONNECT service.test:0 HTTP/1.1",
        b"CONNECT service.test:65536 HTTP/1.1",
        b"CONNECT service.test:-8080 HTTP/1.1",
        b"CONNECT service.test:8080;8081 HTTP/1.1",
        b"CONNECT service.test\0:8080 HTTP/1.1",
        b"CONNECT service.test:8080\n127.0.0.1:1 HTTP/1.1",
        b"CONNECT  service.test:8080 HTTP/1.1",
        b"CONNECT " + b"a" * 60_000 + b":80 HTTP/1.1",
        b"GET",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x05\x01\x00",
        b"PRI * HTTP/2.0",
        b"GET http://service.test:8080/ HTTP/1.1\r\nX: " + b"x" * 70_000,
    )

    def ask(number: int) -> str:
        return refused(lines[number] + b"\r\n\r\n")

    return f"{each(range(len(lines)), ask)}; no end: {each((1,), lambda _: refused(b'GET http://service.test:8080/'))}"


@attempt("another Host than the target", "an allowed request whose headers name the canary's host")
def host_mismatch() -> str:
    answer = send(f"GET http://service.test:8080/ HTTP/1.1\r\nHost: 127.0.0.1:{CANARY}\r\n\r\n".encode())
    return _only_the_service(answer)


@attempt("smuggled requests", "two lengths, chunks, and a second request to the canary behind an allowed one")
def smuggled() -> str:
    second = f"CONNECT 127.0.0.1:{CANARY} HTTP/1.1\r\n\r\nGET http://127.0.0.1:{CANARY}/ HTTP/1.1\r\n\r\n".encode()
    first = (
        b"POST http://service.test:8080/ HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    tunnel = send(b"CONNECT service.test:8080 HTTP/1.1\r\n\r\n", more=b"GET / HTTP/1.1\r\n\r\n" + second)
    return f"{_only_the_service(send(first + second))}; {_only_the_service(tunnel)}"


def _only_the_service(answer: bytes) -> str:
    if b"the canary" in answer or b"the declared service" not in answer:
        raise Escaped(repr(answer[:200]))
    return "only the declared service answered"


@attempt("the port itself", "open the VM's port a second time: by its node, by a node of our own, through /proc/1/fd")
def port() -> str:
    node = Path("/dev", next(Path("/sys/class/virtio-ports").iterdir()).name)
    os.mknod("/dev/mine", 0o20600, node.stat().st_rdev)

    def opened(path: str) -> str:
        os.close(os.open(path, os.O_RDWR))
        return "opened"

    return each((str(node), "/dev/mine", f"/proc/1/fd/{port_number()}"), opened)


@attempt("connections asked for past the proxy", "OPEN frames of our own on the agent's port, for what is not declared")
def frames_open() -> str:
    asked = (
        {"host": "127.0.0.1", "port": CANARY},
        {"host": "127.0.0.1", "port": SERVICE},
        {"host": "169.254.169.254", "port": 80},
        {"host": "service.test", "port": 8081},
        {"host": "service.test\0", "port": 8080},
        {"host": ["service.test"], "port": 8080},
        {"host": "service.test", "port": "8080"},
        {"host": "service.test", "port": True},
        {"host": "x" * 2000, "port": 8080},
    )
    with the_port() as fd:
        for number, request in enumerate(asked):
            os.write(fd, _frame(OPEN, 5000 + 2 * number, json.dumps(request).encode()))
    return f"{len(asked)} frames sent; the host's records say what became of them"


@attempt("frames of other streams", "answers, output, files and ends for streams that are not ours, or not there")
def frames_of_others() -> str:
    with the_port() as fd:
        for number in (9999, 2**31, 2**32 - 1):
            for kind in (STDOUT, OK, FILE, OPENED, EXIT, DATA, 255):
                os.write(fd, _frame(kind, number, b'{"code": 0}'))
    return "sent; this attempt goes on as if nothing had been said"


def _frame(kind: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!BII", kind, stream, len(payload)) + payload
