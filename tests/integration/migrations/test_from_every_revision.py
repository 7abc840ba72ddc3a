"""A new release on an old database: nothing is lost, the rules are in force, and what was under way goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from engine.domain.chain import EMPTY
from engine.domain.errors import Conflict
from engine.domain.states import (
    ApprovalState,
    AttemptState,
    Choice,
    Decision,
    IncidentState,
    RunState,
)
from engine.store import activations, chain, migrate, models, tokens
from engine.store.models import Base
from engine.store.session import Database
from tests.integration.engine.conftest import ANA, BEN, Box
from tests.integration.migrations.left_behind import (
    ADDED_FROM,
    UNDER_WAY,
    Drive,
    Rows,
    abandoned,
    approved,
    as_of,
    awaiting,
    changing,
    diagnosing,
    fill,
    halted,
    left_behind,
    measuring,
    new_box,
    plain,
    rolling_back,
)

REVISIONS = tuple(script.revision for script in ScriptDirectory(str(migrate.SCRIPTS)).walk_revisions())
EARLIER = tuple(reversed(REVISIONS[1:]))

HISTORY = ("event", "verdict", "note", "decision", "activation")
REFUSED = (
    "UPDATE approval SET state = 'approved', decided_by = 'UANA' WHERE state = 'pending'",
    "UPDATE approval SET state = 'approved' WHERE state = 'consumed'",
    "UPDATE escalation SET decided = 'retry', decided_by = 'UANA' WHERE decided IS NULL",
    "UPDATE run SET state = 'nonsense'",
    "UPDATE outbox SET topic = 'nonsense'",
    "UPDATE outbox SET state = 'nonsense'",
    "UPDATE outbox SET incident_number = 9999",
    "UPDATE run SET worker = 'nobody'",
)

pytestmark = pytest.mark.parametrize("revision", EARLIER)


def old(url: str, revision: str, drive: Drive) -> tuple[Database, Rows]:
    """A database at this revision, with what was left in it."""
    rows = as_of(revision, left_behind(drive))
    database = Database(url)
    migrate.upgrade(database, revision)
    fill(database, rows)
    return database, rows


def started_on(url: str, revision: str, drive: Drive) -> Box:
    """A process of this release that came up on it."""
    database, _ = old(url, revision, drive)
    migrate.upgrade(database)
    box = new_box(database, starts=3)
    assert box.worker.reaper.recover()
    box.round()
    return box


def driven(box: Box) -> Any:
    """The run that was under way."""
    return box.service.incident(1).runs[-1]


def drive_on(box: Box) -> None:
    """Only that one: the rows that were added are of runs that never were."""
    box.driver.drive(driven(box).id)


@pytest.mark.parametrize("drive", UNDER_WAY)
def test_nothing_is_lost(url: str, revision: str, drive: Drive) -> None:
    database, rows = old(url, revision, drive)
    there = sa.MetaData()
    there.reflect(database.engine)
    migrate.upgrade(database)

    for name, table in Base.metadata.tables.items():
        if name not in there.tables or name == "move":
            continue
        shared = [column for column in table.columns if column.name in there.tables[name].columns]
        with database.engine.connect() as connection:
            found = {_key(table, row): row for row in connection.execute(sa.select(*shared)).mappings()}
        added = [row for row in found.values() if name == "event" and row["kind"] == "history_sealed"]
        assert len(found) - len(added) == len(rows[name]), name
        if name == "event" and revision == "0001":
            assert len(added) == len(rows["incident"]), "each incident's past is sealed once"
        for row in rows[name]:
            now = found[_key(table, row)]
            changed = {"key"} if name == "outbox" else set()
            same = {c.name: plain(now[c.name]) for c in shared if c.name not in changed}
            assert same == {name: plain(row[name]) for name in same}
    database.close()


def _key(table: sa.Table, row: Any) -> tuple[object, ...]:
    return tuple(row[column.name] for column in table.primary_key)


def test_every_chain_verifies(url: str, revision: str) -> None:
    database, rows = old(url, revision, halted)
    migrate.upgrade(database)

    with database.reading() as session:
        incidents = session.scalars(sa.select(models.Incident)).all()
        for incident in incidents:
            head = EMPTY
            query = sa.select(models.Event).where(models.Event.incident_number == incident.number)
            for row in session.scalars(query.order_by(models.Event.seq)):
                link = chain.link_of(row)
                assert (link.seq, row.hash) == (head.seq + 1, link.hash(head.hash))
                head = type(head)(link.seq, row.hash)
            assert chain.head_of(incident.head_seq, incident.head_hash) == head
            assert head.seq > 0
    assert len(incidents) == len(rows["incident"])
    database.close()


def test_the_rules_are_in_force(url: str, revision: str) -> None:
    database, _ = old(url, revision, awaiting)
    migrate.upgrade(database)
    history = [
        f"{verb} {table}{rest}" for table in HISTORY for verb, rest in (("UPDATE", " SET id = id"), ("DELETE FROM", ""))
    ]

    for statement in (*history, *REFUSED):
        with pytest.raises(Conflict, match="refused"), database.transaction() as session:
            session.execute(sa.text(statement))
    database.close()


def test_what_was_decided_has_its_decision(url: str, revision: str) -> None:
    database, _ = old(url, revision, rolling_back)
    migrate.upgrade(database)

    with database.reading() as session:
        made: dict[object, models.PersonDecision] = {
            (d.approval_id or d.escalation_id, d.choice, d.by): d
            for d in session.scalars(sa.select(models.PersonDecision))
        }
        for approval in session.scalars(sa.select(models.Approval).where(models.Approval.decided_by.is_not(None))):
            choice = Choice.REJECT if approval.state is ApprovalState.REJECTED else Choice.APPROVE
            assert made[approval.id, choice, approval.decided_by].order_digest == approval.order_digest
        for raised in session.scalars(sa.select(models.Escalation).where(models.Escalation.decided.is_not(None))):
            assert raised.decided is not None
            assert made[raised.id, Choice(raised.decided.value), raised.decided_by].run_id == raised.run_id
    database.close()


def test_the_schema_is_that_of_a_new_database(url: str, revision: str, tmp_path: Path) -> None:
    database, _ = old(url, revision, halted)
    migrate.upgrade(database)
    if database.dialect == "sqlite":
        fresh = Database(f"sqlite:///{tmp_path / 'fresh.db'}")
        migrate.upgrade(fresh)
        assert schema(database) == schema(fresh)
        fresh.close()
        with database.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    inspector = sa.inspect(database.engine)
    for table in Base.metadata.sorted_tables:
        wanted = {str(c.name) for c in table.constraints if isinstance(c, sa.CheckConstraint)}
        assert {str(check["name"]) for check in inspector.get_check_constraints(table.name)} == wanted
        assert {i["name"] for i in inspector.get_indexes(table.name)} >= {i.name for i in table.indexes}
        keys = {(*key["constrained_columns"], key["referred_table"]) for key in inspector.get_foreign_keys(table.name)}
        assert keys == {(*key.column_keys, key.referred_table.name) for key in table.foreign_key_constraints}
    database.close()


def schema(database: Database) -> dict[str, list[str]]:
    """Name -> the words of the SQL of every table, index and trigger; a table made anew has them in any order."""
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
    return {name: sorted(re.findall(r"[^\s,]+", sql)) for name, sql in rows}


def test_what_ran_before_is_activated_as_it_ran_last(url: str, revision: str) -> None:
    """An upgrade stops nobody's automation; what was never run, or changes from now on, is activated by a person."""
    database, rows = old(url, revision, halted)
    migrate.upgrade(database)
    newest = {run["runbook"]: run for run in sorted(rows["run"], key=lambda run: run["opened_at"])}

    with database.reading() as session:
        for name, run in newest.items():
            row = activations.newest(session, name)
            assert row is not None
            assert (row.on, row.digest, row.source, row.by) == (True, run["runbook_digest"], run["source"], "migration")
        assert activations.newest(session, "never-run") is None
    assert newest
    database.close()


# -- what was under way


def test_an_approval_can_be_given(url: str, revision: str) -> None:
    box = started_on(url, revision, awaiting)
    box.service.approve(driven(box).approvals[-1].token, ANA, yes=True)
    drive_on(box)

    assert driven(box).state is RunState.COMPLETED
    assert box.hypervisor.ran == ["production"]
    box.database.close()


def test_an_approval_that_was_given_is_used_once(url: str, revision: str) -> None:
    box = started_on(url, revision, approved)
    drive_on(box)

    assert driven(box).state is RunState.COMPLETED
    assert driven(box).approvals[-1].state is ApprovalState.CONSUMED
    box.database.close()


def test_a_change_whose_worker_is_gone_is_asked_about(url: str, revision: str) -> None:
    box = started_on(url, revision, changing)
    drive_on(box)
    run = driven(box)
    assert (run.state, run.attempts[-1].state) == (RunState.HALTED, AttemptState.UNKNOWN)
    assert box.hypervisor.ran == []

    box.service.decide(run.escalations[-1].token, BEN, Decision.ROLL_BACK)
    drive_on(box)
    assert driven(box).state is RunState.ROLLED_BACK
    box.database.close()


def test_an_idempotent_step_is_retried_with_the_runbook_of_then(url: str, revision: str) -> None:
    box = started_on(url, revision, diagnosing)
    with box.database.reading() as session:
        kept = session.scalar(sa.select(models.Run.source).where(models.Run.incident_number == 1))
    assert kept == box.shelf.source
    box.shelf.source = "a newer runbook"
    drive_on(box)

    run = driven(box)
    assert [attempt.state for attempt in run.attempts[:2]] == [AttemptState.LOST, AttemptState.FINISHED]
    assert run.state is RunState.AWAITING_APPROVAL
    box.database.close()


def test_a_measurement_is_begun_anew(url: str, revision: str) -> None:
    box = started_on(url, revision, measuring)
    assert driven(box).state is RunState.QUEUED
    drive_on(box)

    assert driven(box).state is RunState.AWAITING_APPROVAL
    box.database.close()


def test_a_halted_run_can_be_decided(url: str, revision: str) -> None:
    box = started_on(url, revision, halted)
    run = driven(box)
    assert [raised.decided for raised in run.escalations] == [Decision.RETRY, None]
    box.service.decide(run.escalations[-1].token, ANA, Decision.RETRY)
    drive_on(box)

    assert driven(box).state is RunState.AWAITING_APPROVAL
    box.database.close()


def test_a_rollback_that_was_decided_is_carried_out(url: str, revision: str) -> None:
    box = started_on(url, revision, rolling_back)
    drive_on(box)

    assert driven(box).state is RunState.ROLLED_BACK
    box.database.close()


def test_what_an_abandoned_run_held_is_let_go(url: str, revision: str) -> None:
    box = started_on(url, revision, abandoned)
    box.clock.pass_time(minutes=30)
    box.round()
    with box.database.reading() as session:
        assert session.scalars(sa.select(models.TargetLock)).all() == []

    box.fire(b"ToyBroken resolved")
    box.fire()
    box.driver.drive(box.incident().runs[-1].id)
    assert box.incident().runs[-1].state is RunState.AWAITING_APPROVAL
    box.database.close()


def test_the_rest_of_it_is_worked_off(url: str, revision: str) -> None:
    box = started_on(url, revision, awaiting)
    box.watch.drain()
    told = box.service.outbox_due(1000)
    box.service.outbox_recover()

    assert {item.topic.value for item in told} >= {"card", "feed", "approval"}
    assert box.service.incident(ADDED_FROM).state in IncidentState
    if not box.database.is_shared:
        assert len([line for line in box.secrets.log if line.startswith("recovered vault_token")]) == 2
    with box.database.reading() as session:
        assert len(tokens.undead(session)) == 2
    for summary in box.service.incidents(limit=1000):
        box.service.incident(summary.number)
    box.database.close()
