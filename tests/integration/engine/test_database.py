"""What a lost connection, or a transaction that was not committed, leaves in memory: nothing."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from engine.domain.errors import Unavailable
from engine.domain.states import RunState
from engine.store import chain, models, runs
from engine.store import session as sessions
from engine.store.session import Database, Session
from tests.integration.engine.conftest import Box
from tests.services.postgres import Postgres


@pytest.fixture
def database(postgres: Postgres) -> Any:
    """An open database with one connection that was used."""
    database = Database(postgres.new_database())
    with database.transaction() as session:
        session.execute(sa.text("CREATE TABLE seen (id int)"))
    yield database
    database.close()


def cut_off(database: Database) -> None:
    """End every connection to this database from the server's side."""
    others = sa.create_engine(database.engine.url, isolation_level="AUTOCOMMIT")
    with others.connect() as connection:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
        connection.exec_driver_sql(query + "pg_backend_pid()")
    others.dispose()


def look(database: Database) -> None:
    with database.transaction() as session:
        session.execute(sa.text("SELECT 1"))


def test_a_connection_that_died_while_it_lay_idle_is_not_given_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TRUSTED_S", 0.0)
    cut_off(database)

    look(database)


def test_one_that_died_just_now_costs_one_transaction_and_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TRUSTED_S", 3600.0)
    cut_off(database)

    with pytest.raises(Unavailable):
        look(database)
    look(database)


def test_what_was_not_committed_is_not_remembered(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each boundary fails once, after everything but its events was written."""
    failed: set[int] = set()
    strangers: list[str] = []

    def write_once_in_vain(session: Session) -> None:
        seq = max((row["seq"] for row in session.info.get(chain.EVENTS, [])), default=0)
        if seq and seq not in failed and session.info.get(runs.PAST):
            failed.add(seq)
            session.flush()
            raise OperationalError("insert", {}, Exception("the network was cut"))
        write(session)

    def remember(session: Session, run_id: str, known: runs.Past) -> None:
        of_run = models.Attempt.run_id == run_id
        there = set(session.scalars(sa.select(models.Attempt.id).where(of_run)))
        strangers.extend(row.id for row in known.attempts if row.id not in there)
        was(session, run_id, known)

    write, was = chain.write, runs.remember
    monkeypatch.setattr(chain, "write", write_once_in_vain)
    monkeypatch.setattr(runs, "remember", remember)
    box.fire()
    box.driver.woken(box.run().id)

    assert box.run().state is RunState.AWAITING_APPROVAL
    assert len(failed) > 4
    assert strangers == []
