"""What the database itself refuses, on both dialects, whatever our code does."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from engine.coordination import machine
from engine.domain.errors import Conflict, IllegalMove
from engine.domain.incident import Topic
from engine.domain.states import AttemptState, RunEvent, RunState
from engine.store import models, outbox, runs
from engine.store.models import Base
from tests.integration.engine.conftest import ANA, Box

FORGED_MOVE = (
    "INSERT INTO event (incident_number, at, kind, actor, move_source, move_target, text, detail)"
    " VALUES (1, '2026-11-22 03:00:00', 'gate_held', 'me', 'halted', 'queued', '', '{}')"
)


def refused(box: Box, statement: str) -> None:
    """The database refuses this statement."""
    with pytest.raises(Conflict, match="refused"), box.database.transaction() as session:
        session.execute(sa.text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET text = 'nothing happened'",
        "DELETE FROM event",
        "UPDATE verdict SET verdict = 'held'",
        "DELETE FROM verdict",
        "UPDATE run SET state = 'nonsense'",
        "UPDATE attempt SET state = 'started'",
        "UPDATE approval SET state = 'approved'",
        "UPDATE incident SET state = 'nonsense'",
        FORGED_MOVE,
    ],
)
def test_the_database_refuses(box: Box, statement: str) -> None:
    box.until_approval()
    refused(box, statement)


def test_a_second_active_run_of_an_incident_is_refused(box: Box) -> None:
    box.until_approval()
    columns = [column.name for column in models.Run.__table__.columns]
    values = ", ".join("'second'" if name == "id" else name for name in columns)
    copy = f"INSERT INTO run ({', '.join(columns)}) SELECT {values} FROM run"  # noqa: S608  # names of our own columns
    refused(box, copy)


@pytest.mark.parametrize("last", [True, False], ids=["last", "in between"])
def test_a_second_started_attempt_is_refused_with_all_that_was_written_beside_it(box: Box, last: bool) -> None:
    """On Postgres the refusal comes with the answers to everything that was sent together, at the end or before."""
    box.until_approval()
    with pytest.raises(Conflict, match="refused"):
        start_two(box, told=not last)

    with box.database.reading() as session:
        assert runs.get(session, box.run().id).waits_for != "two attempts"
        assert "never told" not in set(session.scalars(sa.select(models.Outbox.key)))
        assert {"one", "two"}.isdisjoint(row.id for row in runs.attempts(session, box.run().id))


def start_two(box: Box, *, told: bool) -> None:
    """Two attempts at once; `told`: and word of them, which is sent after them."""
    with box.database.transaction() as session:
        run = runs.lock(session, box.run().id).run
        run.waits_for = "two attempts"
        for name in ("one", "two"):
            runs.add_attempt(session, started(run, name))
        if told:
            outbox.tell(session, Topic.CARD, run.incident_number, "x", "never told", outbox.REPORTS, run.opened_at)


def started(run: models.Run, name: str) -> models.Attempt:
    """An attempt that begins now."""
    return models.Attempt(
        id=name,
        run_id=run.id,
        leg="fix",
        step="fix",
        changes=False,
        idempotent=True,
        state=AttemptState.STARTED,
        worker="w",
        started_at=run.opened_at,
        content_digest="c",
        order_digest="o",
    )


def test_a_run_that_is_known_is_read_again_when_somebody_wrote_it(box: Box) -> None:
    box.until_approval()
    with box.database.transaction() as session:
        known = runs.lock(session, box.run().id).run
    with box.database.transaction() as session:
        same = runs.lock(session, known.id, known=known).run
    box.service.abandon(1, ANA, "no")

    with box.database.transaction() as session:
        now = runs.lock(session, known.id, known=known).run
        assert same is known
        assert (now is known, now.state) == (False, RunState.ABANDONED)


def test_a_move_from_a_stale_picture_changes_nothing(box: Box) -> None:
    box.until_approval()
    with box.database.reading() as session:
        stale = runs.get(session, box.run().id)
    box.service.abandon(1, ANA, "no")

    with pytest.raises(Conflict), box.database.transaction() as session:
        machine.move(session, stale, RunEvent.APPROVED, box.clock.now(), text="too late")
    assert box.run().state is RunState.ABANDONED


def test_an_illegal_move_is_refused_before_it_reaches_the_database(box: Box) -> None:
    box.until_approval()

    with box.database.reading() as session:
        run = runs.get(session, box.run().id)
    with pytest.raises(IllegalMove), box.database.transaction() as session:
        machine.move(session, run, RunEvent.GATE_HELD, box.clock.now(), text="I say so")


def test_the_models_are_what_the_migrations_make(box: Box) -> None:
    with box.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": ours})
        assert compare_metadata(context, Base.metadata) == []


def ours(name: str | None, _kind: str, _parents: object) -> bool:
    """Procrastinate's own tables have no model of ours."""
    return not (name or "").startswith("procrastinate")
