"""`catalog`: a small HTTP service that reads its prices with a package. Runs in a target; standard library only.

Its packages are those of the dpkg root in its folder; what it imported at its start is what it has. /loaded lists it,
narrowed by `?package=NAME&version=VERSION`; /healthz answers 200, or 500 when the prices cannot be read with it.
Touching `drain` ends it, after what it holds was answered; whoever keeps it starts it anew.
"""

import importlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

ROOT = Path("/srv/catalog")
PACKAGES = ROOT / "root" / "usr" / "lib" / "python3" / "dist-packages"


class Answer(BaseHTTPRequestHandler):
    """One request."""

    pricefeed: ClassVar[ModuleType]
    timeout = 10

    def do_GET(self) -> None:
        """Answer /healthz and /loaded."""
        asked = urlsplit(self.path)
        if asked.path == "/loaded":
            loaded = {"package": "python3-pricefeed", "version": self.pricefeed.VERSION}
            self._send(200, {"loaded": [loaded] if dict(parse_qsl(asked.query)).items() <= loaded.items() else []})
        else:
            well = self._reads_prices()
            self._send(200 if well else 500, {"ok": well})

    def _reads_prices(self) -> bool:
        try:
            return bool(self.pricefeed.prices((ROOT / "data" / "prices.csv").read_text()))
        except (OSError, ValueError):
            return False

    def _send(self, status: int, said: dict[str, object]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Requests are not logged."""


def main() -> None:
    """Run until `drain` is there."""
    os.umask(0o002)
    sys.dont_write_bytecode = True  # the root holds what its packages brought, and nothing else
    sys.path.insert(0, str(PACKAGES))
    Answer.pricefeed = importlib.import_module("pricefeed")
    server = ThreadingHTTPServer(("0.0.0.0", 8080), Answer)  # noqa: S104 - a target has one forwarded port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not (ROOT / "drain").exists():
        time.sleep(0.25)
    server.shutdown()
    server.server_close()
    (ROOT / "drain").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
