"""`shop`: a small HTTPS service. Runs in a target; standard library only.

Under its folder: `tls/chain.pem` (its certificate and who issued it), `tls/key.pem`, `log/app.log`. Touching
`tls/reload` makes it read them again (and remove `reload`) within half a second; what it cannot serve it does not take,
and goes on as before. /healthz answers 200.
"""

import json
import os
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path("/srv/shop")
TLS = ROOT / "tls"


def say(text: str) -> None:
    """One line of the log."""
    with (ROOT / "log" / "app.log").open("a") as log:
        log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")


def identity() -> ssl.SSLContext:
    """What is in the files. Raises OSError when the certificate is not for the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "chain.pem", TLS / "key.pem")
    return context


class Answer(BaseHTTPRequestHandler):
    """One request."""

    timeout = 10

    def do_GET(self) -> None:
        """Answer /healthz."""
        body = json.dumps({"ok": True}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Requests are not logged."""


class Door(ThreadingHTTPServer):
    """Each connection is served with the identity that is in force when it comes."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], identity: ssl.SSLContext) -> None:
        self.identity = identity
        super().__init__(address, Answer)

    def get_request(self) -> tuple[socket.socket, object]:
        """The handshake is done in the connection's own thread, when it is first read."""
        connection, address = super().get_request()
        return self.identity.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


def main() -> None:
    """Run until killed."""
    os.umask(0o002)
    (TLS / "key.pem").chmod(0o600)  # the disk was filled on the host, where all may read all
    (TLS / "reload").unlink(missing_ok=True)
    door = Door(("0.0.0.0", 8080), identity())  # noqa: S104 - a target has one forwarded port
    threading.Thread(target=door.serve_forever, daemon=True).start()
    say("INFO started")
    while True:
        if (TLS / "reload").exists():
            try:
                door.identity = identity()
                say("INFO reloaded")
            except OSError as error:
                say(f"ERROR goes on with the certificate of before: {error}")
            (TLS / "reload").unlink(missing_ok=True)
        time.sleep(0.25)


if __name__ == "__main__":
    main()
