"""What an earlier release left in its database: a run that was under way, and rows in every state that there is.

The run is driven by the real engine on a scratch database, the rest is added there; then all of it is copied into a
database at an earlier revision, as far as that has columns for it.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
import sqlalchemy as sa

from engine.domain.alert import AlertStatus, Severity
from engine.domain.digest import snapshot_digest
from engine.domain.incident import Topic
from engine.domain.states import (
    MOVES,
    ApprovalState,
    AttemptState,
    Choice,
    Decision,
    IncidentState,
    RunState,
    Verdict,
)
from engine.orchestration.adapters import Adapters
from engine.store import chain, migrate
from engine.store.models import Base
from engine.store.session import Database, Session
from tests.doubles.engine import (
    FakeClock,
    FakeGates,
    FakeHypervisor,
    FakeProbeRunner,
    FakeRunner,
    FakeSecrets,
    FakeShelf,
    FakeTrigger,
)
from tests.doubles.toy import T0, directory
from tests.integration.engine.conftest import ANA, Box
from tests.integration.engine.test_crash import Killed, die_in

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
Drive = Callable[[Box], None]
FIRST, SECOND = "0001", "0002"
PAUSED = "paused"
""" A state of attempts that came with agents, at revision 0006. """
REMINDERS = {Topic.APPROVAL_REMINDER, Topic.ESCALATION_REMINDER}
""" Topics that the first release did not know. """
ADDED_FROM = 100
""" The numbers of the incidents that were not driven. """


def new_box(database: Database, starts: int = 0) -> Box:
    """An installation on this database, with the toy runbook on its shelf.

    `starts`: how often it came up before, once a minute.
    """
    shelf, hypervisor, gates, places = FakeShelf(), FakeHypervisor(), FakeGates(), directory()
    clock, runner, secrets = FakeClock(), FakeRunner(), FakeSecrets()
    adapters = Adapters(
        clock=clock,
        triggers={"fake": FakeTrigger()},
        shelf=shelf,
        hypervisor=hypervisor,
        runner=runner,
        probe_runner=FakeProbeRunner(),
        secrets=secrets,
        gate_kinds=gates.kinds,
        directory=lambda: places,
    )
    box = Box(database, clock, shelf, hypervisor, runner, secrets, gates, places, adapters, starts=starts)
    box.clock.pass_time(minutes=starts)
    box.start()
    return box


# -- the run that was under way


def awaiting(box: Box) -> None:
    """A person is asked whether production may be changed."""
    box.until_approval()


def approved(box: Box) -> None:
    """The yes is there, and not used yet."""
    box.service.approve(box.until_approval(), ANA, yes=True)


def changing(box: Box) -> None:
    """Production is being changed."""
    approved(box)
    die_in(box, "production")


def diagnosing(box: Box) -> None:
    """An idempotent step is under way."""
    box.fire()
    die_in(box, "diagnose")


def measuring(box: Box) -> None:
    """A gate measures."""

    def die(_check_id: str) -> None:
        raise Killed

    box.gates.before_each = die
    box.fire()
    with pytest.raises(Killed):
        box.go()


def halted(box: Box) -> None:
    """The first gate did not hold, was decided and did not hold again."""
    box.gates.verdicts["confirmed-inside"] = Verdict.FAILED
    box.fire()
    box.go()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()


def rolling_back(box: Box) -> None:
    """A person decided to roll back, and nothing of it was begun."""
    approved(box)
    box.gates.verdicts["healthy-outside"] = Verdict.FAILED
    box.go()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.ROLL_BACK)


def abandoned(box: Box) -> None:
    """It was abandoned while it changed staging; then its worker died, and its targets are held."""
    box.fire()
    die_in(box, "staging")
    box.service.abandon(1, ANA, "enough")


UNDER_WAY: tuple[Drive, ...] = (
    awaiting,
    approved,
    changing,
    diagnosing,
    measuring,
    halted,
    rolling_back,
    abandoned,
)


@cache
def left_behind(drive: Drive) -> Rows:
    """Every row of the newest schema, table by table."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/scratch.db")
        try:
            return _left_behind(database, drive)
        finally:
            database.close()


def _left_behind(database: Database, drive: Drive) -> Rows:
    migrate.upgrade(database)
    drive(new_box(database))
    with database.engine.begin() as connection:
        triggers = connection.scalars(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all()
        for name in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
    with database.transaction() as session:
        _in_every_state(session)
    with database.reading() as session:
        return {
            table.name: [dict(row) for row in session.connection().execute(sa.select(table)).mappings()]
            for table in Base.metadata.sorted_tables
        }


# -- rows in every state


def _in_every_state(session: Session) -> None:
    count, add = itertools.count(ADDED_FROM), _Adding(session)
    for severity, state in itertools.product(Severity, IncidentState):
        number = add.incident(next(count), severity=severity, state=state)
        for status in AlertStatus:
            add.alert(number, severity, status)
    for run_state in RunState:
        run = add.run(next(count), run_state)
        for tried in AttemptState:
            if tried is not AttemptState.STARTED or run_state is RunState.RUNNING:
                add.attempt(run, tried)
        for verdict in Verdict:
            add.verdict(run, verdict)
    for answer in ApprovalState:
        add.approval(add.run(next(count), RunState.HALTED), answer)
    for decided in (None, *Decision):
        add.escalation(add.run(next(count), RunState.HALTED), decided)
    for topic, sending in itertools.product(Topic, ("pending", "sending", "sent", "dead")):
        add.outbox(topic, sending)
    add.others()


class _Adding:
    """Adds rows with whatever a column needs; `at` is when everything happened."""

    def __init__(self, session: Session) -> None:
        self.session, self.count, self.at = session, itertools.count(1), T0 - timedelta(days=1)
        self.shelf = FakeShelf()

    def add(self, table: str, **values: Any) -> str:
        """One row; text that was not given is the row's own, times are `at`. Returns its id."""
        name = f"{table}-{next(self.count)}"
        given: dict[str, Any] = {}
        meant = Base.metadata.tables[table]
        for column in meant.columns:
            if column.name in values:
                given[column.name] = values[column.name]
            elif not column.nullable and column is not meant.autoincrement_column:
                given[column.name] = self._some(column, name)
        self.session.flush()
        self.session.connection().execute(sa.insert(meant).values(**given))
        return name

    def _some(self, column: sa.Column[Any], name: str) -> Any:
        kinds: Mapping[type, Any] = {str: name, bytes: name.encode(), datetime: self.at, bool: False, int: 0}
        if isinstance(column.type, sa.JSON):
            return {}
        kind = column.type.impl_instance if isinstance(column.type, sa.TypeDecorator) else column.type
        return kinds[kind.python_type]

    def incident(self, number: int, **values: Any) -> int:
        values = {"severity": Severity.HIGH, "state": IncidentState.OPEN, **values}
        self.add("incident", number=number, head_seq=0, head_hash="", **values)
        self.event(number, None)
        return number

    def event(self, number: int, run_id: str | None, **values: Any) -> None:
        values = {"kind": "incident_opened", "actor": "fake", "text": "a text\x00 with more ✓", **values}
        chain.append(self.session, number=number, run_id=run_id, at=self.at, detail={"a": [1, None, "é"]}, **values)

    def alert(self, number: int, severity: Severity, status: AlertStatus) -> None:
        self.add("alert", incident_number=number, severity=severity, status=status)

    def run(self, number: int, state: RunState) -> str:
        self.incident(number)
        files = {path: data.decode() for path, data in self.shelf.files.items()}
        run = self.add(
            "run",
            incident_number=number,
            runbook="toy",
            runbook_digest=snapshot_digest(self.shelf.source, self.shelf.files),
            source=self.shelf.source,
            files=dict.fromkeys(files, ""),
            state=state,
            leg="diagnose",
            pool="default",
        )
        for move in MOVES:
            self.event(number, run, kind=move.event.value, move=move)
        return run

    def attempt(self, run: str, state: AttemptState) -> None:
        data = self.add("artefact", data=b"\x00\xff")
        digest = data if state is AttemptState.FINISHED else None
        output = {"cause": "x"} if state is AttemptState.FINISHED else None
        ended = None if state is AttemptState.STARTED else self.at
        values = {"idempotent": True, "leg": "diagnose", "step": "diagnose", "connections": [{"host": "h"}]}
        self.add("attempt", run_id=run, state=state, artefact_digest=digest, output=output, ended_at=ended, **values)

    def verdict(self, run: str, verdict: Verdict) -> None:
        self.add("verdict", run_id=run, leg="confirmed", of="diagnose", verdict=verdict, checks=[])

    def approval(self, run: str, state: ApprovalState) -> None:
        answered = state not in {ApprovalState.PENDING, ApprovalState.EXPIRED}
        by = {"decided_by": "UANA", "decided_name": "Ana", "decided_at": self.at} if answered else {}
        name = self.add("approval", run_id=run, state=state, **by)
        if answered:
            order = self.session.connection().scalar(
                sa.select(Base.metadata.tables["approval"].c.order_digest).filter_by(id=name)
            )
            choice = Choice.REJECT if state is ApprovalState.REJECTED else Choice.APPROVE
            self.add("decision", run_id=run, approval_id=name, choice=choice, order_digest=order, by="UANA")

    def escalation(self, run: str, decided: Decision | None) -> None:
        by = {"decided_by": "UBEN", "decided_name": None, "decided_at": self.at} if decided else {}
        name = self.add("escalation", run_id=run, options=["retry", "abandon"], decided=decided, **by)
        if decided:
            self.add("decision", run_id=run, escalation_id=name, choice=Choice(decided.value), by="UBEN")

    def outbox(self, topic: Topic, state: str) -> None:
        self.add("outbox", topic=topic, state=state, incident_number=ADDED_FROM, lane=f"lane-{topic}")

    def others(self) -> None:
        for state in ("pending", "done", "rejected"):
            # a body that waits is worked off by the next process
            self.add("inbox", source="fake", body=b"Nobody resolved", state=state)
        self.add("note", id=1, incident_number=ADDED_FROM, steps={"diagnose": "drifted"})
        for revoked_at, failure in ((None, ""), (None, "Vault was away"), (self.at, "")):
            self.add("vault_token", run_id="long-gone", kind="step", revoked_at=revoked_at, failure=failure)
        self.add("message_ref")
        self.add("seen")


# -- into a database at an earlier revision


def as_of(revision: str, rows: Rows) -> Rows:
    """The rows as a release at this revision wrote them (columns that it lacks are dropped on the way in)."""
    rows = {
        **rows,
        "attempt": [row for row in rows["attempt"] if row["state"] != PAUSED],
        "activation": _activated(rows),
    }
    if revision != FIRST:
        return rows
    number = itertools.count(1)
    known = [row for row in rows["outbox"] if row["topic"] not in REMINDERS]
    # each card had a key of its own then
    kept = [
        {**row, "key": f"{row['lane']}:{next(number)}"} if row["key"] == row["lane"] else dict(row) for row in known
    ]
    # one that was being sent at a crash waits again, beside the one that was told meanwhile
    cards = [row for row, now in zip(kept, known, strict=True) if now["key"] == now["lane"]]
    again = [{**row, "id": 10_000 + row["id"], "key": f"{row['key']}-again", "ambiguous": True} for row in cards]
    return {**rows, "outbox": [*kept, *again]}


def _activated(rows: Rows) -> list[dict[str, Any]]:
    """What the upgrade to 0005 had written, where it was there already: the newest run of each runbook."""
    newest = {row["runbook"]: row for row in sorted(rows["run"], key=lambda row: row["opened_at"])}
    return [
        {
            "id": number,
            "runbook": name,
            "on": True,
            "digest": run["runbook_digest"],
            "source": run["source"],
            "files": run["files"],
            "by": "migration",
            "by_name": "the upgrade",
            "at": run["opened_at"],
            "reason": "",
        }
        for number, (name, run) in enumerate(newest.items(), 1)
    ]


def fill(database: Database, rows: Rows) -> None:
    """Put rows into a database that `migrate.upgrade` brought to an earlier revision, its triggers asleep."""
    there = sa.MetaData()
    there.reflect(database.engine)
    with database.engine.begin() as connection:
        triggers = _asleep(connection)
        moves = [{"source": m.source, "event": m.event, "target": m.target, "because": m.because} for m in MOVES]
        for table in there.sorted_tables:
            values = moves if table.name == "move" else rows.get(table.name, [])
            if not values:
                continue
            meant = Base.metadata.tables[table.name].columns
            typed = sa.table(table.name, *(sa.column(c.name, c.type) for c in meant if c.name in table.columns))
            kept = [{name: value for name, value in row.items() if name in typed.c} for row in values]
            connection.execute(sa.insert(typed), kept)
            _count_on(connection, table)
        for statement in triggers:
            connection.exec_driver_sql(statement)


def _asleep(connection: sa.Connection) -> list[str]:
    """Nothing refuses what earlier releases wrote step by step; returns the statements that wake the triggers."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        return []
    found = connection.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
    for name, _ in found:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    return [str(sql) for _, sql in found]


def _count_on(connection: sa.Connection, table: sa.Table) -> None:
    serial = table.autoincrement_column
    if connection.dialect.name == "postgresql" and serial is not None:
        biggest = sa.select(sa.func.max(serial)).scalar_subquery()
        connection.execute(sa.select(sa.func.setval(f"{table.name}_{serial.name}_seq", biggest)))


def plain(value: Any) -> Any:
    """A stored value as both dialects and both revisions spell it."""
    if isinstance(value, dict | list):
        return json.loads(json.dumps(value))
    return value
