"""A real Alertmanager on a free port, and a receiver that keeps what it posts."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

TOKEN = "integration-token"
DEADLINE_S = 30.0

CONFIG = """
route: {{receiver: signalbox, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1s}}
receivers:
  - name: signalbox
    webhook_configs:
      - url: http://127.0.0.1:{port}/alerts/alertmanager
        send_resolved: true
        http_config: {{follow_redirects: false, authorization: {{type: Bearer, credentials: {token}}}}}
"""


@dataclass(frozen=True)
class Post:
    """One request as it came: header names lower case, as the web server hands them over."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Keeps posts and lets a test wait for the one it wants."""

    posts: list[Post] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def keep(self, post: Post) -> None:
        with self.changed:
            self.posts.append(post)
            self.changed.notify_all()

    def wait(self, wanted: Callable[[Post], bool], *, after: int = 0) -> Post:
        """The first post from number `after` on that is wanted; fails at the deadline with what came instead."""
        end = time.monotonic() + DEADLINE_S
        with self.changed:
            while True:
                for post in self.posts[after:]:
                    if wanted(post):
                        return post
                if not self.changed.wait(end - time.monotonic()):
                    pytest.fail(f"no such post in {DEADLINE_S} s; {len(self.posts)} came: {self.posts[-3:]}")


def _handler(receiver: Receiver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.keep(Post({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Quiet."""

    return Handler


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, int]]:
    """A receiver and its port."""
    kept = Receiver()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(kept)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield kept, server.server_port
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Alertmanager:
    """A running Alertmanager and what it posted."""

    url: str
    receiver: Receiver

    def put(self, alert: dict[str, Any]) -> None:
        """Give it one alert, as Prometheus does: https://github.com/prometheus/alertmanager/tree/main/api/v2."""
        answer = requests.post(f"{self.url}/api/v2/alerts", json=[alert], timeout=10)
        assert answer.status_code == 200, answer.text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + DEADLINE_S
    while process.poll() is None and time.monotonic() < end:
        try:
            if requests.get(f"{url}/-/ready", timeout=1).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)  # not listening yet: there is nothing to wait on but the clock
    pytest.fail(f"Alertmanager did not become ready: {log.read_text()[-2000:]}")


@pytest.fixture
def alertmanager(receiver: tuple[Receiver, int], tmp_path: Path) -> Iterator[Alertmanager]:
    """Debian's Alertmanager without gossip, posting to the receiver each second."""
    program = shutil.which("prometheus-alertmanager")
    if program is None:
        pytest.fail("no prometheus-alertmanager: apt-get install prometheus-alertmanager")
    kept, port = receiver
    config, log = tmp_path / "alertmanager.yml", tmp_path / "log"
    config.write_text(CONFIG.format(port=port, token=TOKEN))
    listen = f"127.0.0.1:{_free_port()}"
    argv = [program, f"--config.file={config}", f"--storage.path={tmp_path / 'data'}", f"--web.listen-address={listen}"]
    with log.open("wb") as out:
        process = subprocess.Popen([*argv, "--cluster.listen-address="], stdout=out, stderr=out)
    try:
        _wait_ready(f"http://{listen}", process, log)
        yield Alertmanager(f"http://{listen}", kept)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def statuses(post: Post) -> list[str]:
    """The status of each alert of a post."""
    return [alert["status"] for alert in json.loads(post.body)["alerts"]]
