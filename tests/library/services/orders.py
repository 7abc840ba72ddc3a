"""`orders`: a small HTTP service that does not start with a bad configuration. Runs in a target; standard library only.

Under its folder: `orders.json` {"currency": "EUR", "prices": NAME, "workers": 1..64}, `orders.last-good.json` (what it
last started with), `data/NAME`, `log/app.log`. Touching `restart` ends it; whoever keeps it starts it anew.
/healthz answers 200, or 500 when there are no prices.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

ROOT = Path("/srv/orders")


def say(text: str) -> None:
    """One line of the log."""
    with (ROOT / "log" / "app.log").open("a") as log:
        log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")


class Answer(BaseHTTPRequestHandler):
    """One request."""

    config: ClassVar[dict[str, object]] = {}
    timeout = 10

    def do_GET(self) -> None:
        """Answer /healthz."""
        well = (ROOT / "data" / str(self.config["prices"])).is_file()
        said = {"ok": well, "currency": self.config["currency"], "workers": self.config["workers"]}
        body = json.dumps(said if well else {**said, "error": "no prices"}).encode()
        self.send_response(200 if well else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Requests are not logged."""


def main() -> None:
    """Run until `restart` is there."""
    os.umask(0o002)
    (ROOT / "restart").unlink(missing_ok=True)
    text = (ROOT / "orders.json").read_text()
    Answer.config = json.loads(text)
    workers = Answer.config["workers"]
    if type(workers) is not int or not 1 <= workers <= 64:
        say(f"ERROR cannot start: workers is {workers!r}")
        sys.exit(1)
    good = ROOT / "orders.last-good.json"
    if not good.exists() or good.read_text() != text:
        good.write_text(text)
    server = ThreadingHTTPServer(("0.0.0.0", 8080), Answer)  # noqa: S104 - a target has one forwarded port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("INFO started")
    while not (ROOT / "restart").exists():
        time.sleep(0.25)


if __name__ == "__main__":
    main()
