"""A process of Signalbox for tests of faults: the real engine on a real database, in a world of processes for VMs.

`python -m tests.faults.worker --url ... --folder ... --role worker|bot|up`. Commands come as JSON, one a line, on
standard input; each is answered by one line on standard output. SIGTERM drains.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from engine.coordination import boundary
from engine.domain.errors import SignalboxError
from engine.domain.incident import Person
from engine.domain.states import ApprovalState, Decision
from engine.orchestration.watch import Watch
from engine.orchestration.worker import Worker
from engine.service import People, Service
from engine.store import migrate
from engine.store.session import Database
from engine.wiring import make_worker
from tests.doubles.engine import FakeHarness
from tests.faults import world

PEOPLE = ("UANA", "UBEN")
TOKEN = {"Authorization": "Bearer token"}


class Office:
    """What can be asked of the process: the verbs of the service, and what it costs."""

    def __init__(self, service: Service, worker: Worker | None) -> None:
        self.service, self.worker = service, worker
        self.statements = 0

    def count(self, *_: object) -> None:
        self.statements += 1

    def receive(self, body: str) -> bool:
        return self.service.receive("fake", TOKEN, body.encode())

    def approve(self, token: str, by: str) -> str:
        self.service.approve(token, Person(id=by, name=by), yes=True)
        return "approved"

    def decide(self, token: str, by: str, decision: str) -> str:
        self.service.decide(token, Person(id=by, name=by), Decision(decision))
        return decision

    def questions(self, above: int = 0) -> list[dict[str, Any]]:
        """What waits for a person, of the incidents above this number."""
        asked: list[dict[str, Any]] = []
        for summary in self.service.incidents(limit=MOST_LISTED):
            if summary.number <= above or summary.run_state is None:
                continue
            for run in self.service.incident(summary.number).runs:
                asked.extend(
                    {"verb": "approve", "token": each.token, "run": run.id}
                    for each in run.approvals
                    if each.state is ApprovalState.PENDING
                )
                asked.extend(
                    {"verb": "decide", "token": each.token, "run": run.id, "options": [str(o) for o in each.options]}
                    for each in run.escalations
                    if each.decided is None
                )
        return asked

    def cost(self) -> dict[str, int]:
        """Statements so far, threads, resident memory in KiB."""
        status = Path("/proc/self/status").read_text()
        resident = int(status.partition("VmRSS:")[2].split()[0])
        return {"statements": self.statements, "threads": threading.active_count(), "resident_kib": resident}

    def who(self) -> dict[str, Any]:
        """Which worker this process is now, and what it drives."""
        if self.worker is None:
            return {}
        return {"worker": self.worker.claim.id, "drives": list(self.worker.driver.driven())}


MOST_LISTED = 50
COMMANDS = ("receive", "approve", "decide", "questions", "cost", "who")


def answer(office: Office, line: str) -> str:
    """One command, one line."""
    told = json.loads(line)
    verb = told.pop("verb")
    if verb not in COMMANDS:
        return json.dumps({"error": f"no command {verb}", "kind": "BadInput"})
    command: Callable[..., object] = getattr(office, verb)
    try:
        return json.dumps({"answer": command(**told)})
    except SignalboxError as error:
        return json.dumps({"error": str(error), "kind": type(error).__name__})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--role", required=True, choices=["worker", "bot", "up"])
    parser.add_argument("--host", default="here")
    parser.add_argument("--pool", default="default")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--dead-after", type=float, default=3)
    parser.add_argument("--outlives", type=float, default=1)
    parser.add_argument("--drain", type=float, default=30)
    parser.add_argument("--spec", default=world.Spec().write())
    return parser.parse_args()


def main() -> None:
    """Until SIGTERM, or until nobody holds the other end of standard input."""
    given = arguments()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    boundary.OUTLIVES_TIMEOUT_S = given.outlives  # type: ignore[attr-defined]  # real VMs need minutes; ours do not
    process = f"{given.role}-{os.getpid()}-{secrets.token_hex(3)}"
    spec = world.Spec.read(given.spec)
    around = world.adapters(spec, given.folder, given.host, process, given.outlives)
    database = Database(given.url, patience_s=max(2, given.dead_after / 2))
    migrate.bring_up_to_date(database)
    watch = Watch(database, around)
    worker = None
    if given.role != "bot":
        worker = make_worker(
            database,
            around,
            url=given.url,
            process=process,
            host=given.host,
            pool=given.pool,
            concurrency=given.concurrency,
            lasts_s=given.dead_after,
        )
    office = Office(Service(database, around, watch, worker, People(approvers=PEOPLE), FakeHarness()), worker)
    sa.event.listen(database.engine, "before_cursor_execute", office.count)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    if given.role != "worker":
        watch.start()
    if worker is not None:
        worker.start()
    threading.Thread(target=_serve, args=(office, stopping), daemon=True).start()
    stopping.wait()
    if worker is not None:
        worker.stop(given.drain)
    if given.role != "worker":
        watch.stop()
    database.close()


def _serve(office: Office, stopping: threading.Event) -> None:
    print(json.dumps({"answer": "up"}), flush=True)  # noqa: T201 - the control channel
    for line in sys.stdin:
        print(answer(office, line), flush=True)  # noqa: T201 - the control channel
    stopping.set()


if __name__ == "__main__":
    main()
