"""`reports`: a small HTTP service whose memory grew for days. Runs in a target; standard library only.

`--aged` is how it is found: it holds what it leaked. With `cache.unbounded` in its folder it leaks anew from the start.
Touching `drain` ends it, after what it holds was answered; whoever keeps it starts it anew. It logs its memory.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path("/srv/reports")
AGED_MB = 64
MEGA = 1 << 20
MOST_MB = 80
LOG_EVERY_TICKS = 8


class Answer(BaseHTTPRequestHandler):
    """One request."""

    timeout = 10

    def do_GET(self) -> None:
        """Answer /healthz."""
        body = b'{"ok": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Requests are not logged."""


def rss_kb() -> int:
    """Memory in use, in kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    """Run until `drain` is there."""
    os.umask(0o002)
    held = [b"x" * MEGA for _ in range(AGED_MB if "--aged" in sys.argv else 0)]
    server = ThreadingHTTPServer(("0.0.0.0", 8080), Answer)  # noqa: S104 - a target has one forwarded port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    leaks = (ROOT / "cache.unbounded").exists()
    ticks = 0
    while not (ROOT / "drain").exists():
        if leaks and len(held) < MOST_MB:
            held += [b"x" * MEGA for _ in range(4)]
        if ticks % LOG_EVERY_TICKS == 0 and "--aged" not in sys.argv:
            with (ROOT / "log" / "app.log").open("a") as log:
                log.write(json.dumps({"at": time.time()}) + f" rss_kb={rss_kb()}\n")
        ticks += 1
        time.sleep(0.25)
    server.shutdown()
    server.server_close()
    (ROOT / "drain").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
