"""`checkout`: the small HTTP service whose log fills a data disk. Runs inside a target VM; standard library only.

Everything lies under one folder: `checkout.json` {"log_level": "debug" | "info", "rotate_mb": 0..1024 (optional)},
`log/app.log`, `checkout.pid`; touching `reload` makes it read its configuration again (and remove `reload`) within
half a second. It serves /healthz (200, or 500 with the reason) and /metrics (Prometheus text).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TICK_S = 0.25
INFO_EVERY_TICKS = 8
SLOW_ABOVE = 0.89
LEVELS = ("debug", "info")
MEGA = 1 << 20
CART = (
    "cart=7f3a41 item=SKU-20817 quantity=2 price=1999 currency=EUR stock=reserved payment=authorised " * 160
).encode()


class BadConfig(ValueError):
    """The configuration is not one that this release takes; the message is what /healthz says."""


@dataclass(frozen=True)
class Config:
    """`rotate_mb` 0 means: the log is never cut."""

    log_level: str
    rotate_mb: int = 0


def parse(data: bytes, *, takes_rotation: bool = True) -> Config:
    """The configuration in these bytes. `takes_rotation=False` is an older release, which does not know the key."""
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise BadConfig(f"checkout.json is not JSON: {error}") from None
    known = {"log_level", "rotate_mb"} if takes_rotation else {"log_level"}
    if not isinstance(raw, dict):
        raise BadConfig("checkout.json is not an object")
    if unknown := sorted(set(raw) - known):
        raise BadConfig(f"unknown key {', '.join(unknown)}")
    if raw.get("log_level") not in LEVELS:
        raise BadConfig("log_level must be debug or info")
    rotate = raw.get("rotate_mb", 0)
    if type(rotate) is not int or not 0 <= rotate <= 1024:
        raise BadConfig("rotate_mb must be a whole number from 0 to 1024")
    return Config(raw["log_level"], rotate)


def used_ratio(path: Path) -> float:
    """How full the file system is, as df reckons it: 0 to 1."""
    fs = os.statvfs(path)
    used = fs.f_blocks - fs.f_bfree
    return used / (used + fs.f_bavail)


class Checkout:
    """The service without its sockets: configuration, log, counters. One thread calls `tick`, others only read."""

    def __init__(self, root: Path, env: str, *, pace_mb_s: float, takes_rotation: bool) -> None:
        self.root = root
        self.env = env
        self.config = Config("info")
        self.problem = "not configured yet"
        self.digest = ""
        self.loaded_at = 0.0
        self.requests = 0
        self.errors = 0
        self._chunks_per_tick = max(1, round(pace_mb_s * MEGA * TICK_S / len(CART)))
        self._takes_rotation = takes_rotation
        self._ticks = 0
        self._log = root / "log" / "app.log"

    def load(self) -> None:
        """Read checkout.json. A bad one makes the service unwell and leaves the last good one in force."""
        try:
            data = (self.root / "checkout.json").read_bytes()
            self.config = parse(data, takes_rotation=self._takes_rotation)
        except (OSError, BadConfig) as error:
            self.problem = str(error)
            return
        self.digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.loaded_at = time.time()
        self.problem = ""

    def tick(self) -> None:
        """One quarter of a second: reload if asked, write the log, cut it."""
        self._ticks += 1
        reload = self.root / "reload"
        try:
            if reload.exists():
                self.load()
                reload.unlink()
            self._write()
            self._cut()
        except OSError as error:
            self.errors += 1
            print(f"checkout: {error}", flush=True)

    def _chunk(self) -> bytes:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ DEBUG dump ", time.gmtime()).encode() + CART + b"\n"

    def _write(self) -> None:
        lines = []
        if self._ticks % INFO_EVERY_TICKS == 0:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            lines.append(f"{now} INFO served {self.requests} requests, {self.errors} errors\n".encode())
        if self.config.log_level == "debug" and used_ratio(self.root) < SLOW_ABOVE:
            # a full disk would end the story before the runbook can: close to the end it only crawls
            lines += [self._chunk()] * self._chunks_per_tick
        if lines:
            with self._log.open("ab") as log:
                log.write(b"".join(lines))

    def _cut(self) -> None:
        limit = self.config.rotate_mb * MEGA
        if not limit or not self._log.exists() or self._log.stat().st_size <= limit:
            return
        # in place, because beside a log that fills the disk there is no room for a second one
        with self._log.open("r+b") as log:
            log.seek(-(limit // 2), os.SEEK_END)
            tail = log.read(limit // 2)
            log.seek(0)
            log.truncate()
            log.write(tail)

    def health(self) -> tuple[int, dict[str, object]]:
        """Status and body of /healthz."""
        if self.problem:
            return 500, {"ok": False, "env": self.env, "error": self.problem}
        return 200, {"ok": True, "env": self.env, "config_digest": self.digest}

    def metrics(self) -> str:
        """The body of /metrics, in Prometheus's text format."""
        levels = "".join(
            f'checkout_log_level{{level="{level}"}} {int(level == self.config.log_level)}\n' for level in LEVELS
        )
        return (
            f"# TYPE checkout_disk_used_ratio gauge\ncheckout_disk_used_ratio {used_ratio(self.root):.4f}\n"
            f"# TYPE checkout_log_level gauge\n{levels}"
            f"# TYPE checkout_requests_total counter\ncheckout_requests_total {self.requests}\n"
            f"# TYPE checkout_errors_total counter\ncheckout_errors_total {self.errors}\n"
            "# TYPE checkout_config_loaded_timestamp_seconds gauge\n"
            f"checkout_config_loaded_timestamp_seconds {self.loaded_at:.3f}\n"
        )


class Door(ThreadingHTTPServer):
    """The HTTP side of one Checkout."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], checkout: Checkout) -> None:
        self.checkout = checkout
        super().__init__(address, Answer)


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Door
    timeout = 10

    def do_GET(self) -> None:
        """Answer /healthz and /metrics."""
        checkout = self.server.checkout
        checkout.requests += 1
        if self.path == "/metrics":
            self._send(200, "text/plain; version=0.0.4", checkout.metrics())
        elif self.path == "/healthz":
            status, body = checkout.health()
            checkout.errors += status >= 500
            self._send(status, "application/json", json.dumps(body) + "\n")
        else:
            self._send(404, "text/plain", "no such page\n")

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Requests are counted, not logged: the log's pace is the demo's business."""


def main() -> None:
    """Run until killed."""
    arguments = argparse.ArgumentParser(description="the demo's checkout service")
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--env", required=True)
    arguments.add_argument("--listen", required=True, help="HOST:PORT")
    arguments.add_argument("--pace", type=float, default=0.6, help="MB of log a second at debug")
    arguments.add_argument("--old-release", action="store_true", help="does not know the key rotate_mb")
    given = arguments.parse_args()
    os.umask(0o002)  # the group `checkout`, which operators are in, may work on what the service writes
    checkout = Checkout(given.root, given.env, pace_mb_s=given.pace, takes_rotation=not given.old_release)
    (given.root / "checkout.pid").write_text(f"{os.getpid()}\n")
    checkout.load()
    host, _, port = given.listen.rpartition(":")
    threading.Thread(target=Door((host, int(port)), checkout).serve_forever, daemon=True).start()
    while True:
        checkout.tick()
        time.sleep(TICK_S)


if __name__ == "__main__":
    main()
