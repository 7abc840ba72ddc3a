"""Real ends for the gate kinds: a Prometheus on a free port that scrapes a page of ours, and a small HTTP server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

START_S = 60


@dataclass
class Pages:
    """What the server answers: path -> (status, body); a path that is not there hangs until the test is over."""

    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(pages: Pages) -> Iterator[Pages]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            pages.asked.append(self.path)
            if path not in pages.answers:
                pages.over.wait(30)
                return
            status, body = pages.answers[path]
            self.send_response(status)
            headers = {"Content-Type": "text/plain; version=0.0.4", "Content-Length": str(len(body))}
            for name, value in (headers | pages.headers).items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pages.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield pages
    finally:
        pages.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def pages() -> Iterator[Pages]:
    with serving(Pages()) as served:
        yield served


@dataclass
class Prometheus:
    """A running Prometheus, and the page that it scrapes every second as env="staging"."""

    url: str
    metrics: Pages

    def show(self, text: str) -> None:
        self.metrics.answers["/metrics"] = (200, text.encode())

    def fail_to_scrape(self) -> None:
        self.metrics.answers["/metrics"] = (503, b"")

    def ask(self, query: str) -> list[dict[str, object]]:
        answer = requests.get(f"{self.url}/api/v1/query", {"query": query}, timeout=10)
        result: list[dict[str, object]] = answer.json()["data"]["result"]
        return result

    def wait(self, query: str, done: Callable[[list[dict[str, object]]], bool] = bool) -> None:
        """Until the query gives series (or what `done` says)."""
        deadline = time.monotonic() + START_S
        while not done(self.ask(query)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{query} gave {self.ask(query)} for {START_S} s")
            time.sleep(0.1)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if not shutil.which("prometheus"):
        pytest.fail("prometheus is not installed: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    with serving(Pages()) as metrics, (folder / "log").open("wb") as log:
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: checkout\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{metrics.port}'], labels: {{env: staging}}}}]\n"
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        running = Prometheus(f"http://127.0.0.1:{port}", metrics)
        running.show("disk_used_ratio 0.5\n")
        argv = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        argv += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            _wait_until_ready(running, process, folder / "log")
            yield running
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_ready(running: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{running.url}/-/ready", timeout=5).ok:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"prometheus did not start: {log.read_text(errors='replace')[-1000:]}")
        time.sleep(0.1)
