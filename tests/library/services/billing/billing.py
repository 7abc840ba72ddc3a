"""`billing`: a small HTTP service with a database, of which the reports leak connections. Runs in a target.

It has two sessions of the role `billing_app`, with which /healthz answers: 200 while both read, and how many `lost` it
has counted, sessions that were ended under its hands. A thread makes reports as `billing_reports`, in a pool of at most
22 connections: each takes a new one, begins a transaction, and never ends it.
"""

import contextlib
import json
import select
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import psycopg2
from psycopg2.extensions import connection

SOCKETS = "/var/lib/cluster/run"
SESSIONS = 2
POOL = 22
PACE_S = 0.5


def connect(role: str) -> connection:
    """A session of this role. Raises psycopg2.OperationalError, also when the database is full."""
    return psycopg2.connect(host=SOCKETS, dbname="billing", user=role)


def cents(session: connection) -> int:
    """The sum of all invoices. Raises psycopg2.Error."""
    with session.cursor() as cursor:
        cursor.execute("SELECT sum(cents) FROM invoices")
        return int(cursor.fetchone()[0])


class Sessions:
    """The sessions that answer requests; one at a time."""

    def __init__(self) -> None:
        self.lost = 0
        self._lock = threading.Lock()
        self._open = [self._new() for _ in range(SESSIONS)]

    def well(self) -> bool:
        """Whether every session reads. One that was lost is opened anew, for the next request."""
        with self._lock:
            read = [self._reads(number) for number in range(SESSIONS)]
            return all(read)

    def _reads(self, number: int) -> bool:
        try:
            return cents(self._open[number]) > 0
        except psycopg2.Error:
            self.lost += 1
        try:
            self._open[number] = self._new()
        except psycopg2.OperationalError:
            return False
        return True

    def _new(self) -> connection:
        session = connect("billing_app")
        session.autocommit = True
        return session


def leak() -> None:
    """Make reports for ever. A connection that the server ended leaves the pool; it is only then that there is room."""
    pool: list[connection] = []
    while True:
        ended = [one for one in pool if select.select([one], [], [], 0)[0]]
        for one in ended:
            one.close()
            pool.remove(one)
        if len(pool) < POOL:
            with contextlib.suppress(psycopg2.Error):  # the database is full: later, then
                pool.append(connect("billing_reports"))
                cents(pool[-1])
        time.sleep(PACE_S)


class Answer(BaseHTTPRequestHandler):
    """One request."""

    sessions: ClassVar[Sessions]
    timeout = 10

    def do_GET(self) -> None:
        """Answer /healthz."""
        well = self.sessions.well()
        body = json.dumps({"ok": well, "lost": self.sessions.lost}).encode()
        self.send_response(200 if well else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Requests are not logged."""


def main() -> None:
    """Run for ever."""
    Answer.sessions = Sessions()
    threading.Thread(target=leak, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()  # noqa: S104 - a target has one forwarded port


if __name__ == "__main__":
    main()
