"""What Postgres itself refuses, whoever broke into the bot or the worker: each statement as its role."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from engine.domain.errors import BadInput, Conflict, Refused
from engine.domain.states import RunState
from engine.store import grants
from engine.store.migrate import NOT_PERMITTED
from tests.integration.engine.conftest import ANA
from tests.integration.roles.conftest import OWNER, Roles, TwoRoles, ask_about_a_call

BY_A_TRIGGER = "P0001"
BOTH = (grants.BOT, grants.WORKER)

DECISION = (
    'INSERT INTO decision (id, run_id, approval_id, choice, order_digest, "by", by_name, at, reason) '
    "SELECT 'forged', run_id, id, 'approve', order_digest, 'UANA', 'Ana', now(), '' FROM approval"
)
VERDICT = (
    "INSERT INTO verdict (id, run_id, leg, of, verdict, why, checks, begun_at, ended_at, late) "
    "SELECT 'forged', run_id, leg, of, 'held', '', '[]', now(), now(), false FROM verdict LIMIT 1"
)
ATTEMPT = (
    "INSERT INTO attempt (id, run_id, leg, step, changes, idempotent, state, worker, started_at, content_digest, "
    "order_digest, reason, stdout, stderr, connections, late) SELECT 'forged', run_id, leg, step, changes, idempotent, "
    "'started', worker, now(), content_digest, order_digest, '', '', '', '[]', false FROM attempt LIMIT 1"
)
ACTIVATION = (
    'INSERT INTO activation (runbook, "on", digest, source, files, "by", by_name, at, reason) '
    "VALUES ('mine', true, 'sha256:0', '', '{}', 'UANA', 'Ana', now(), '')"
)
SWITCH = "INSERT INTO kill_switch (\"on\", \"by\", by_name, at, reason) VALUES (false, 'UANA', 'Ana', now(), '')"
APPROVAL = (
    "INSERT INTO approval (id, run_id, leg, state, token, content_digest, order_digest, lines, preview, requested_at, "
    "expires_at, decided_by, reason) SELECT 'forged', run_id, leg, 'approved', 'forged', content_digest, order_digest, "
    "lines, '', now(), now(), 'UANA', '' FROM approval"
)
ESCALATION = (
    "INSERT INTO escalation (id, run_id, leg, why, remedy, mention, options, token, raised_at, reminders, reason, {0}) "
    "SELECT 'forged', run_id, leg, '', '', '', '[]', 'forged', now(), 0, '', {1} FROM approval"
)

HISTORY = ("event", "verdict", "decision", "note", "kill_switch", "activation")
CHANGED = {
    "event": "text",
    "verdict": "why",
    "decision": "reason",
    "note": "what",
    "kill_switch": "reason",
    "activation": "reason",
}
EDITS = tuple(
    f"{verb} {rest}"
    for table in HISTORY
    for verb, rest in (
        ("UPDATE", f"{table} SET {CHANGED[table]} = 'edited'"),
        ("DELETE", f"FROM {table}"),
        ("TRUNCATE", table),
    )
)
OWNERS = (
    "ALTER TABLE event DISABLE TRIGGER event_append_only",
    "ALTER TABLE approval DISABLE TRIGGER ALL",
    "DROP TRIGGER approval_answered ON approval",
    "DROP FUNCTION signalbox_append_only() CASCADE",
    "ALTER TABLE run DROP CONSTRAINT ck_run_state",
    "ALTER TABLE event ADD COLUMN more TEXT",
    "ALTER TABLE event OWNER TO CURRENT_USER",
    "DROP TABLE event",
    "CREATE TRIGGER mine BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION signalbox_append_only()",
    "CREATE TABLE public.mine (id INTEGER)",
    "CREATE TEMPORARY TABLE mine (id INTEGER)",
    "CREATE SCHEMA mine",
    "SET session_replication_role = replica",
    "SET ROLE signalbox_owner",
    "UPDATE move SET target = 'queued'",
    "INSERT INTO move VALUES ('halted', 'gate_held', 'queued', 'I say so')",
    "DELETE FROM move",
    "UPDATE alembic_version SET version_num = '0001'",
    "UPDATE run SET source = 'another runbook'",
    "UPDATE run SET inputs = '{}'",
    "UPDATE run SET chosen_by = 'UCLEO'",
    "UPDATE artefact SET data = 'other'",
    "UPDATE attempt SET content_digest = 'tested, really'",
    "UPDATE approval SET order_digest = 'another'",
    "UPDATE approval SET content_digest = 'another'",
    "UPDATE approval SET run_id = 'another'",
    "UPDATE approval SET id = 'another'",
    "UPDATE approval SET leg = 'another'",
    "UPDATE approval SET lines = '{}'",
    "DELETE FROM approval",
    "DELETE FROM escalation",
    "UPDATE approval SET agent_call_id = NULL",
    "UPDATE agent_call SET args = '{}'",
    "UPDATE agent_call SET tool = 'read'",
    "UPDATE agent_call SET conversation_id = 'another'",
    "DELETE FROM agent_call",
    "UPDATE agent_conversation SET leg = 'another'",
    "DELETE FROM agent_conversation",
    "DELETE FROM attempt",
    "DELETE FROM run",
)
WORKERS = (
    DECISION,
    SWITCH,
    ACTIVATION,
    "SELECT * FROM activation",
    "INSERT INTO note SELECT 1, 1, 'UANA', 'Ana', now(), '{}', '', '', '', ''",
    "UPDATE approval SET decided_by = 'UANA'",
    "UPDATE approval SET expires_at = now() + interval '1 year'",
    "UPDATE escalation SET decided = 'retry', decided_by = 'UANA'",
    "UPDATE escalation SET decided_at = now()",
    "UPDATE alert SET status = 'firing'",
    "UPDATE run SET deadline_at = now() + interval '1 year'",
    "INSERT INTO incident DEFAULT VALUES",
    "SELECT * FROM inbox",
    "SELECT subject FROM outbox",
    "UPDATE outbox SET state = 'sent'",
    "SELECT * FROM message_ref",
)
BOTS = (
    VERDICT,
    ACTIVATION,
    ATTEMPT,
    "UPDATE attempt SET stdout = 'all well'",
    "UPDATE agent_call SET state = 'begun'",
    "INSERT INTO agent_call (id) VALUES ('mine')",
    "UPDATE agent_conversation SET requests = 0",
    "UPDATE agent_conversation SET messages = ''",
    "INSERT INTO agent_conversation (id) VALUES ('mine')",
    "INSERT INTO artefact VALUES ('sha256:0', 'mine')",
    "INSERT INTO target_lock VALUES ('production.toy', 'x', now())",
    "INSERT INTO worker DEFAULT VALUES",
    "UPDATE worker SET ended_at = now()",
    "SELECT * FROM vault_token",
    "SELECT procrastinate_fetch_job_v2(ARRAY['default'], 1)",
    "DELETE FROM procrastinate_jobs",
)
NEVER = {grants.WORKER: (*EDITS, *OWNERS, *WORKERS), grants.BOT: (*EDITS, *OWNERS, *BOTS)}


def refusal(database: Roles, role: str, *statements: str) -> str:
    """The SQLSTATE with which Postgres refuses the last of these statements; those before it are carried out."""
    engine = sa.create_engine(database.of(role))
    *before, last = statements
    with engine.connect() as connection:
        for statement in before:
            connection.exec_driver_sql(statement)
        state = refused(connection, last)
    engine.dispose()
    return state


def refused(connection: sa.Connection, statement: str) -> str:
    """The SQLSTATE with which Postgres refuses this statement; empty when it does not. Nothing of it stays."""
    try:
        connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        return str(getattr(error.orig, "sqlstate", ""))
    finally:
        connection.rollback()
    return ""


def as_owner(database: Roles, statement: str) -> None:
    """Carried out by the owner of the tables."""
    engine = sa.create_engine(database.of(OWNER), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_every_forbidden_statement_is_refused_by_postgres(granted: Roles, box: TwoRoles) -> None:
    """In one test, since each needs the same rows: a run that waits for an approval."""
    box.until_approval()
    let_through: dict[tuple[str, str], str] = {}
    for role, statements in NEVER.items():
        engine = sa.create_engine(granted.of(role))
        with engine.connect() as connection:
            states = {statement: refused(connection, statement) for statement in statements}
        engine.dispose()
        let_through |= {(role, each): state for each, state in states.items() if state != NOT_PERMITTED}

    assert let_through == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE approval SET state = 'approved'",
        "UPDATE approval SET state = 'consumed'",
        APPROVAL,
        ESCALATION.format("decided, decided_by", "'retry', 'UANA'"),
        ESCALATION.format("decided_by", "'UANA'"),
        ESCALATION.format("decided_at", "now()"),
    ],
)
def test_a_worker_gives_no_approval_and_decides_nothing(granted: Roles, box: TwoRoles, statement: str) -> None:
    box.until_approval()
    assert refusal(granted, grants.WORKER, statement) in {BY_A_TRIGGER, "23514"}
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_a_worker_gives_no_yes_to_a_call(granted: Roles, box: TwoRoles) -> None:
    """Nor does it begin one that a person is asked about."""
    ask_about_a_call(box)
    for statement in (
        "UPDATE approval SET state = 'approved'",
        "UPDATE approval SET state = 'consumed'",
        "UPDATE agent_call SET state = 'begun', begun_at = now() WHERE state = 'asked'",
        "UPDATE agent_call SET state = 'done', ended_at = now() WHERE state = 'asked'",
    ):
        assert refusal(granted, grants.WORKER, statement) in {BY_A_TRIGGER, "23514"}, statement


def test_a_decision_of_the_workers_own_making_counts_for_nothing(granted: Roles, box: TwoRoles) -> None:
    """A temporary table comes first where names are looked up; the rule must not look there."""
    box.until_approval()
    as_owner(granted, f"GRANT TEMPORARY ON DATABASE {granted.url.database} TO {grants.WORKER}")
    mine = (
        "CREATE TEMPORARY TABLE decision AS SELECT id AS approval_id, 'approve' AS choice, order_digest, "
        "'UANA' AS \"by\" FROM approval"
    )
    named = "UPDATE approval SET decided_by = 'UANA'"
    as_owner(granted, named)

    assert refusal(granted, grants.WORKER, mine, "UPDATE approval SET state = 'approved'") == BY_A_TRIGGER


@pytest.mark.parametrize(
    "statement", ["UPDATE approval SET state = 'approved'", "UPDATE approval SET state = 'pending'"]
)
def test_an_approval_that_was_used_is_used_up(granted: Roles, box: TwoRoles, statement: str) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()

    assert refusal(granted, grants.WORKER, statement) == BY_A_TRIGGER


def test_an_approval_that_was_voided_stays_void(granted: Roles, box: TwoRoles) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.hypervisor.image = b"another"
    box.go()

    assert refusal(granted, grants.WORKER, "UPDATE approval SET state = 'approved'") == BY_A_TRIGGER


def test_the_rule_of_answers_holds_for_the_owner_too(granted: Roles, box: TwoRoles) -> None:
    box.until_approval()
    statement = "UPDATE approval SET state = 'approved', decided_by = 'UANA'"

    assert refusal(granted, OWNER, statement) == BY_A_TRIGGER


@pytest.mark.parametrize("statement", ["UPDATE approval SET lines = '{}'", "UPDATE approval SET preview = 'harmless'"])
def test_a_question_that_shows_something_else_than_its_order_is_void(
    granted: Roles, box: TwoRoles, statement: str
) -> None:
    """A worker writes what is shown: a person must not be led to say yes to what they do not see."""
    token = box.until_approval()
    as_owner(granted, statement)

    with pytest.raises(Refused, match="was shown"):
        box.service.approve(token, ANA, yes=True)
    assert box.run().state is RunState.HALTED


def test_granting_again_takes_back_what_was_granted_by_hand(granted: Roles) -> None:
    as_owner(granted, f"GRANT UPDATE (why), TRUNCATE ON verdict TO {grants.BOT}")
    as_owner(granted, "GRANT UPDATE (why) ON verdict TO PUBLIC")
    granted.psql(grants.script(database=granted.url.database or ""))

    assert refusal(granted, grants.BOT, "UPDATE verdict SET why = ''") == NOT_PERMITTED


@pytest.mark.parametrize("how", [f"ALTER TABLE note OWNER TO {grants.BOT}", f"GRANT {OWNER} TO {grants.WORKER}"])
def test_roles_that_own_tables_or_may_become_their_owner_are_not_granted_anything(roles: Roles, how: str) -> None:
    admin = sa.create_engine(roles.url, isolation_level="AUTOCOMMIT")
    as_owner(roles, "CREATE TABLE note (id INTEGER)")
    with admin.connect() as connection:
        connection.exec_driver_sql(how)
    said = roles.psql(grants.script(database=roles.url.database or ""))
    with admin.connect() as connection:
        connection.exec_driver_sql(f"REVOKE {OWNER} FROM {grants.WORKER}")
    admin.dispose()

    assert said.returncode != 0
    assert "owns tables" in said.stderr


@pytest.mark.parametrize("name", ["", 'a"b', "a'b", "a$$b", "x" * 64, "a\nb"])
def test_a_name_that_would_end_the_statement_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="no name"):
        grants.script(bot=name, database="signalbox")


def test_one_role_for_both_is_refused() -> None:
    with pytest.raises(BadInput, match="a role each"):
        grants.script(bot="one", worker="one", database="signalbox")


def test_what_the_database_refuses_is_a_conflict_for_our_code(box: TwoRoles) -> None:
    with pytest.raises(Conflict, match="refused"), box.of_worker.transaction() as session:
        session.execute(sa.text(SWITCH))
