"""What an agent said, used and called, so that another attempt goes on with it; a person's yes to one of its calls.

Revision: 0006, after 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from engine.store.types import UtcDateTime

revision = "0006"
down_revision = "0005"

ATTEMPT_STATES = ("started", "finished", "failed", "paused", "lost", "unknown")
TOOLS = ("run", "read", "write", "metrics", "logs")
CALL_STATES = ("asked", "begun", "done", "refused")
GOES_ON = (
    "OLD.closed_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.run_id <> OLD.run_id OR NEW.leg <> OLD.leg "
    "OR NEW.requests < OLD.requests"
)
STAYS = (
    "OLD.state IN ('done', 'refused') OR NEW.id <> OLD.id OR NEW.conversation_id <> OLD.conversation_id "
    "OR NEW.call_id <> OLD.call_id OR NEW.tool <> OLD.tool OR CAST(NEW.args AS TEXT) <> CAST(OLD.args AS TEXT) "
    "OR (OLD.state = 'begun' AND NEW.state = 'asked') "
    "OR (OLD.state = 'asked' AND NEW.state IN ('begun', 'done') AND NOT EXISTS "
    "(SELECT 1 FROM approval WHERE agent_call_id = NEW.id AND state = 'consumed'))"
)
REFUSED = {
    "agent_conversation": (GOES_ON, "a closed conversation stays as it is, and what one used grows no less"),
    "agent_call": (STAYS, "a call stays as it was asked for and as it ended, and takes the yes that it waits for"),
}
""" Table -> when a change of it is none that may be, and what that is called. """


def one_of(values: tuple[str, ...], name: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=32)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    _attempts_pause(dialect)
    _conversations()
    _calls()
    # said in SQL: on SQLite Alembic would make the table anew for a foreign key, and lose its CHECKs and triggers
    op.execute(
        "ALTER TABLE approval ADD COLUMN agent_call_id TEXT "
        "CONSTRAINT fk_approval_agent_call_id_agent_call REFERENCES agent_call (id)"
    )
    for statement in _rules(dialect):
        op.execute(statement)


def _conversations() -> None:
    op.create_table(
        "agent_conversation",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("leg", sa.Text(), nullable=False),
        sa.Column("messages", sa.LargeBinary(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("microdollars", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint(
            "requests >= 0 and tokens >= 0 and microdollars >= 0", name=op.f("ck_agent_conversation_used")
        ),
        sa.ForeignKeyConstraint(["id"], ["attempt.id"], name=op.f("fk_agent_conversation_id_attempt")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_agent_conversation_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_conversation")),
    )
    op.create_index(op.f("ix_agent_conversation_run_id"), "agent_conversation", ["run_id"])
    where = sa.text("closed_at is null")
    op.create_index(
        "uq_agent_conversation_open",
        "agent_conversation",
        ["run_id", "leg"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )


def _calls() -> None:
    op.create_table(
        "agent_call",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("order", sa.Integer(), nullable=False),
        sa.Column("tool", one_of(TOOLS, "tool"), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("state", one_of(CALL_STATES, "state"), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=True),
        sa.Column("begun_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("state <> 'begun' or begun_at is not null", name=op.f("ck_agent_call_begun")),
        sa.CheckConstraint(
            "state not in ('done', 'refused') or ended_at is not null", name=op.f("ck_agent_call_ended")
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["agent_conversation.id"],
            name=op.f("fk_agent_call_conversation_id_agent_conversation"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_call")),
        sa.UniqueConstraint("conversation_id", "call_id", name="uq_agent_call_call_id"),
        sa.UniqueConstraint("conversation_id", "order", name="uq_agent_call_order"),
    )
    op.create_index(op.f("ix_agent_call_conversation_id"), "agent_call", ["conversation_id"])


# -- an attempt may pause


def _attempts_pause(dialect: str) -> None:
    if dialect != "sqlite":
        op.drop_constraint(op.f("ck_attempt_state"), "attempt", type_="check")
        op.create_check_constraint(op.f("ck_attempt_state"), "attempt", sa.column("state").in_(ATTEMPT_STATES))
        return
    meaning = sa.Table(
        "attempt",
        sa.MetaData(),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("id", "run_id", "leg", "step")),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("changes", sa.Boolean(), nullable=False),
        sa.Column("idempotent", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("content_digest", sa.Text(), nullable=False),
        sa.Column("order_digest", sa.Text(), nullable=False),
        sa.Column("uses_digest", sa.Text(), nullable=True),
        sa.Column("artefact_digest", sa.Text(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("reason", "stdout", "stderr")),
        sa.Column("output", sa.JSON(), nullable=True),
        sa.Column("connections", sa.JSON(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("dead_by", UtcDateTime(), nullable=True),
        sa.CheckConstraint(sa.column("state").in_(ATTEMPT_STATES), name="ck_attempt_state"),
        sa.ForeignKeyConstraint(["artefact_digest"], ["artefact.digest"], name="fk_attempt_artefact_digest_artefact"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_attempt_run_id_run"),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
    )
    sa.Index("ix_attempt_run_id", meaning.c.run_id)
    started = sa.text("state = 'started'")
    sa.Index("uq_attempt_started_per_run", meaning.c.run_id, unique=True, sqlite_where=started)
    with op.batch_alter_table("attempt", copy_from=meaning, recreate="always"):
        pass


# -- triggers


def _rules(dialect: str) -> tuple[str, ...]:
    if dialect == "sqlite":
        return tuple(
            f"CREATE TRIGGER {table}_{name} BEFORE {verb} ON {table} {when}BEGIN SELECT RAISE(ABORT, '{why}'); END"
            for table, (wrong, what) in REFUSED.items()
            for name, verb, when, why in (
                ("goes_on", "UPDATE", f"WHEN {wrong} ", what),
                ("no_delete", "DELETE", "", f"{table} is never deleted"),
            )
        )
    # whose `approval` is meant must not be said by the search path of whoever writes: a temporary table comes first
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return tuple(
        statement
        for table, (wrong, what) in REFUSED.items()
        for statement in (
            (
                f"CREATE FUNCTION signalbox_{table}_goes_on() RETURNS trigger LANGUAGE plpgsql "
                f"SET search_path = {schema}, pg_temp AS "
                f"$$ BEGIN IF {wrong} THEN RAISE EXCEPTION '{what}'; END IF; RETURN NEW; END $$"
            ),
            (
                f"CREATE TRIGGER {table}_goes_on BEFORE UPDATE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION signalbox_{table}_goes_on()"
            ),
            (
                f"CREATE TRIGGER {table}_no_delete BEFORE DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION signalbox_append_only()"
            ),
        )
    )
