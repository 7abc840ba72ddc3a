"""The volumes of one environment: an HTTP API over a folder of (sparse) files, and its Terraform state with a lock.

GET /volumes?name=NAME&size_gb=N (and /volumes/NAME) is free for all: gates measure it. Whoever has the reader's word
may read and lock the state; only the operator's may write it, or make, change and delete volumes.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

GIB = 1 << 30
_VOLUME = re.compile(r"/volumes/([a-z][a-z0-9-]{0,30})")


@dataclass
class Volumes:
    """One environment. `writes`: what was changed, in order; `refused`: what was tried without the word for it."""

    folder: Path
    reader: str
    operator: str
    writes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    tiers: dict[str, str] = field(default_factory=dict)
    state: bytes = b""
    lock: bytes = b""
    port: int = 0

    def size_gb(self, name: str) -> int | None:
        """How large a volume really is; None without one."""
        path = self.folder / name
        return path.stat().st_size // GIB if path.exists() else None

    def resize(self, name: str, size_gb: int) -> None:
        """As somebody does by hand, past Terraform."""
        with (self.folder / name).open("ab") as file:
            file.truncate(size_gb * GIB)

    def may(self, word: str, *, write: bool) -> bool:
        return word == self.operator or (word == self.reader and not write)


@contextmanager
def serving(volumes: Volumes) -> Iterator[Volumes]:
    """The service on a free port of loopback."""
    volumes.folder.mkdir(parents=True, exist_ok=True)
    with _server({"": volumes}) as volumes.port:
        yield volumes


@contextmanager
def proxy(places: Mapping[str, Volumes]) -> Iterator[int]:
    """An HTTP proxy to environments by their host names, for who has no directory of sites; yields its port."""
    with _server(places) as port:
        yield port


@contextmanager
def _server(places: Mapping[str, Volumes]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"places": places}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    places: Mapping[str, Volumes]

    def handle_one_request(self) -> None:
        """Every method by one table; whatever is not in it is refused."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.volumes = self.places[url.hostname or ""]
        listed = (self.command, url.path) == ("GET", "/volumes")
        code, answer = self._listed(url.query) if listed else self._answer(url.path, body)
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = True

    def _answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        found = _VOLUME.fullmatch(path)
        if self.command == "GET" and found:
            return self._volume(found[1])
        write = not (path == "/state" and self.command in {"GET", "LOCK", "UNLOCK"})
        if not self.volumes.may(self._word(), write=write):
            self.volumes.refused.append(f"{self.command} {path}")
            return 403, b'{"error": "not with this word"}'
        if path == "/state":
            return self._state(body)
        return self._change(found[1], body) if found else (404, b"{}")

    def _listed(self, query: str) -> tuple[int, bytes]:
        """The volumes of which all is true that the query says."""
        wanted = dict(parse_qsl(query))
        found = [self._facts(path.name) for path in sorted(self.volumes.folder.iterdir())]
        return 200, _json(
            {"volumes": [one for one in found if wanted.items() <= {k: str(v) for k, v in one.items()}.items()]}
        )

    def _facts(self, name: str) -> dict[str, Any]:
        volumes = self.volumes
        return {"name": name, "size_gb": volumes.size_gb(name), "tier": volumes.tiers.get(name, "standard")}

    def _word(self) -> str:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(value).decode().partition(":")[2] if scheme == "Basic" else value

    def _volume(self, name: str) -> tuple[int, bytes]:
        return (404, b"{}") if self.volumes.size_gb(name) is None else (200, _json(self._facts(name)))

    def _change(self, name: str, body: bytes) -> tuple[int, bytes]:
        if self.command == "DELETE":
            (self.volumes.folder / name).unlink(missing_ok=True)
            self.volumes.writes.append(f"delete {name}")
            return 200, b"{}"
        wanted = json.loads(body)
        self.volumes.resize(name, wanted["size_gb"])
        self.volumes.tiers[name] = wanted["tier"]
        self.volumes.writes.append(f"{name} {wanted['size_gb']}")
        return self._volume(name)

    def _state(self, body: bytes) -> tuple[int, bytes]:
        volumes = self.volumes
        match self.command:
            case "GET":
                return (200, volumes.state) if volumes.state else (404, b"")
            case "POST":
                volumes.state = body
            case "LOCK" if volumes.lock:
                return 423, volumes.lock
            case "LOCK":
                volumes.lock = body
            case "UNLOCK":
                volumes.lock = b""
        return 200, b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Nothing: `writes` and `refused` say what happened."""


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
