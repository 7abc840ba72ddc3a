"""Claims and workers, decisions as rows, the chain of events, the kill switch, what is due when.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from engine.domain.chain import EMPTY, Head, Link
from engine.domain.records import SEALED, in_order, said
from engine.store import evidence
from engine.store.types import UtcDateTime

revision = "0002"
down_revision = "0001"

TOPICS = (
    "card",
    "feed",
    "leg_reported",
    "gate_reported",
    "approval",
    "escalation",
    "approval_reminder",
    "escalation_reminder",
    "alert_changed",
    "run_ended",
    "note_written",
)
CHOICES = ("approve", "reject", "retry", "roll_back", "take_over", "abandon", "extend")
APPEND_ONLY = ("decision", "kill_switch")
ANSWERED = "a question is answered once, by a row of decision"


def one_of(values: tuple[str, ...], name: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=32)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    _workers()
    _what_people_decide()
    _what_is_due(dialect)
    _chain(dialect)
    for statement in (*append_only(dialect), *answered_by_a_person(dialect)):
        op.execute(statement)
    _decisions_of_before()
    _seal()


def _workers() -> None:
    op.create_table(
        "worker",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("alive_until", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
    # said in SQL: on SQLite Alembic would make the table anew for a foreign key, and lose its CHECKs
    op.execute("ALTER TABLE run ADD COLUMN worker TEXT CONSTRAINT fk_run_worker_worker REFERENCES worker (id)")
    op.add_column("run", sa.Column("pool", sa.Text(), nullable=False, server_default="default"))
    op.add_column("run", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("not_before", UtcDateTime(), nullable=True))
    op.add_column("run", sa.Column("wake_at", UtcDateTime(), nullable=True))
    op.create_index(op.f("ix_run_worker"), "run", ["worker"])
    op.create_index(op.f("ix_run_wake_at"), "run", ["wake_at"])
    op.add_column("attempt", sa.Column("dead_by", UtcDateTime(), nullable=True))
    op.create_table(
        "kill_switch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("on", sa.Boolean(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("by_name", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kill_switch")),
    )


def _what_people_decide() -> None:
    op.create_table(
        "decision",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("approval_id", sa.Text(), nullable=True),
        sa.Column("escalation_id", sa.Text(), nullable=True),
        sa.Column("choice", one_of(CHOICES, "choice"), nullable=False),
        sa.Column("order_digest", sa.Text(), nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("by_name", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_decision_run_id_run")),
        sa.ForeignKeyConstraint(["approval_id"], ["approval.id"], name=op.f("fk_decision_approval_id_approval")),
        sa.ForeignKeyConstraint(
            ["escalation_id"], ["escalation.id"], name=op.f("fk_decision_escalation_id_escalation")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    for column in ("run_id", "approval_id", "escalation_id"):
        op.create_index(op.f(f"ix_decision_{column}"), "decision", [column])


def _what_is_due(dialect: str) -> None:
    op.add_column("approval", sa.Column("warned_at", UtcDateTime(), nullable=True))
    op.add_column("escalation", sa.Column("remind_at", UtcDateTime(), nullable=True))
    op.add_column("escalation", sa.Column("reminders", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("escalation", sa.Column("expires_at", UtcDateTime(), nullable=True))
    op.add_column("escalation", sa.Column("expired_at", UtcDateTime(), nullable=True))
    where = sa.text("decided is null and expired_at is null")
    op.drop_index("uq_escalation_open_per_run", "escalation")
    op.create_index(
        "uq_escalation_open_per_run", "escalation", ["run_id"], unique=True, sqlite_where=where, postgresql_where=where
    )
    _more_topics(dialect)
    # whoever waits since before is looked at once, and then when something is due; and who ended without letting go
    op.execute(
        "UPDATE run SET wake_at = opened_at WHERE state IN ('awaiting_approval', 'halted', 'queued') "
        "OR (ended_at IS NOT NULL AND id IN (SELECT run_id FROM target_lock))"
    )
    # one waiting card serves for all, known by its lane; one that was being sent at a crash may wait beside it
    op.execute(
        'UPDATE outbox SET "key" = lane WHERE id IN (SELECT max(id) FROM outbox '
        "WHERE topic IN ('card', 'feed') AND state = 'pending' GROUP BY lane)"
    )


def _more_topics(dialect: str) -> None:
    if dialect != "sqlite":
        op.drop_constraint(op.f("ck_outbox_topic"), "outbox", type_="check")
        op.create_check_constraint(op.f("ck_outbox_topic"), "outbox", sa.column("topic").in_(TOPICS))
        return
    meaning = sa.Table(
        "outbox",
        sa.MetaData(),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("topic", sa.String(32), nullable=False),
        sa.Column("incident_number", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("ambiguous", sa.Boolean(), nullable=False),
        sa.Column("not_before", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.CheckConstraint(sa.column("topic").in_(TOPICS), name="ck_outbox_topic"),
        sa.CheckConstraint("state in ('pending', 'sending', 'sent', 'dead')", name="ck_outbox_state"),
        sa.ForeignKeyConstraint(["incident_number"], ["incident.number"], name="fk_outbox_incident_number_incident"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("key", name="uq_outbox_key"),
    )
    for column in ("incident_number", "lane", "state"):
        sa.Index(f"ix_outbox_{column}", meaning.c[column])
    with op.batch_alter_table("outbox", copy_from=meaning, recreate="always"):
        pass


# -- the chain


def _chain(dialect: str) -> None:
    """Every event of before gets its place and its hash; verdicts say whether they came late."""
    _history_may_change(dialect, allowed=True)
    op.add_column("incident", sa.Column("head_seq", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("incident", sa.Column("head_hash", sa.Text(), nullable=False, server_default=""))
    op.add_column("event", sa.Column("seq", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("event", sa.Column("hash", sa.Text(), nullable=False, server_default=""))
    op.add_column("verdict", sa.Column("late", sa.Boolean(), nullable=False, server_default=sa.false()))
    _link_events()
    op.create_index("uq_event_link", "event", ["incident_number", "seq"], unique=True)
    _history_may_change(dialect, allowed=False)


def _link_events() -> None:
    bind = op.get_bind()
    columns = [
        "id",
        "incident_number",
        "run_id",
        "at",
        "kind",
        "actor",
        "text",
        "detail",
        "move_source",
        "move_target",
        "seq",
        "hash",
    ]
    types: dict[str, Any] = {"at": UtcDateTime(), "detail": sa.JSON()}
    event = sa.table("event", *(sa.column(name, types.get(name)) for name in columns))
    incident = sa.table("incident", sa.column("number"), sa.column("head_seq"), sa.column("head_hash"))
    heads: dict[int, Head] = {}
    for row in bind.execute(sa.select(event).order_by(event.c.incident_number, event.c.id)).all():
        before = heads.get(row.incident_number, EMPTY)
        link = Link(
            incident=row.incident_number,
            seq=before.seq + 1,
            run_id=row.run_id,
            at=row.at,
            kind=row.kind,
            actor=row.actor,
            text=row.text,
            detail=row.detail,
            move=(row.move_source, row.move_target) if row.move_source is not None else None,
        )
        head = heads[row.incident_number] = Head(link.seq, link.hash(before.hash))
        bind.execute(sa.update(event).where(event.c.id == row.id).values(seq=head.seq, hash=head.hash))
    for number, head in heads.items():
        values = {"head_seq": head.seq, "head_hash": head.hash}
        bind.execute(sa.update(incident).where(incident.c.number == number).values(**values))


def _history_may_change(dialect: str, *, allowed: bool) -> None:
    """The append-only triggers of what is written here once more."""
    for table in ("event", "verdict"):
        if dialect != "sqlite":
            op.execute(f"ALTER TABLE {table} {'DISABLE' if allowed else 'ENABLE'} TRIGGER {table}_append_only")
            continue
        for verb in ("UPDATE", "DELETE"):
            op.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb.lower()}")
            if not allowed:
                op.execute(_refuses(table, verb))


# -- triggers


def _refuses(table: str, verb: str) -> str:
    return (
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


def append_only(dialect: str) -> tuple[str, ...]:
    if dialect == "sqlite":
        return tuple(_refuses(table, verb) for table in APPEND_ONLY for verb in ("UPDATE", "DELETE"))
    return tuple(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION signalbox_append_only()"
        for table in APPEND_ONLY
    )


ASKED = {
    "approval": "NEW.state <> 'pending' OR NEW.decided_by IS NOT NULL OR NEW.decided_at IS NOT NULL",
    "escalation": "NEW.decided IS NOT NULL OR NEW.decided_by IS NOT NULL OR NEW.decided_at IS NOT NULL",
}
""" When a new row is no question. """
ANSWER = {
    "approval": (
        "(NEW.state IN ('approved', 'consumed') AND NOT EXISTS (SELECT 1 FROM decision WHERE approval_id = NEW.id "
        "AND choice = 'approve' AND order_digest = NEW.order_digest AND \"by\" = NEW.decided_by)) "
        "OR (NEW.state <> OLD.state AND NOT (OLD.state = 'pending' AND NEW.state <> 'consumed') "
        "AND NOT (OLD.state = 'approved' AND NEW.state IN ('consumed', 'voided')))"
    ),
    "escalation": (
        "(NEW.decided IS NOT NULL AND NOT EXISTS (SELECT 1 FROM decision WHERE escalation_id = NEW.id "
        'AND choice = NEW.decided AND "by" = NEW.decided_by)) '
        "OR (OLD.decided IS NOT NULL AND coalesce(NEW.decided, '') <> OLD.decided)"
    ),
}
""" When a change is no answer of a person to this very question, or is a second answer. """


def answered_by_a_person(dialect: str) -> tuple[str, ...]:
    """No approval is given and no escalation decided without the row that says who did, for this very order; and what
    was answered or used stays so."""
    if dialect == "sqlite":
        return tuple(
            f"CREATE TRIGGER {table}_answered_{verb.lower()} BEFORE {verb} ON {table} WHEN {wrong[table]} "
            f"BEGIN SELECT RAISE(ABORT, '{ANSWERED}'); END"
            for table in ASKED
            for verb, wrong in (("INSERT", ASKED), ("UPDATE", ANSWER))
        )
    # whose `decision` is meant must not be said by the search path of whoever writes: a temporary table comes first
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    refuse = f"RAISE EXCEPTION '{ANSWERED}'"
    return tuple(
        statement
        for table in ASKED
        for statement in (
            (
                f"CREATE FUNCTION signalbox_{table}_answered() RETURNS trigger LANGUAGE plpgsql "
                f"SET search_path = {schema}, pg_temp AS "
                f"$$ BEGIN IF TG_OP = 'INSERT' THEN IF {ASKED[table]} THEN {refuse}; END IF; "
                f"ELSIF {ANSWER[table]} THEN {refuse}; END IF; RETURN NEW; END $$"
            ),
            (
                f"CREATE TRIGGER {table}_answered BEFORE INSERT OR UPDATE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION signalbox_{table}_answered()"
            ),
        )
    )


def _decisions_of_before() -> None:
    """What was decided before there were rows for it is in play still: it gets its row."""
    bind = op.get_bind()
    names = ["id", "run_id", "approval_id", "escalation_id", "choice", "order_digest", "by", "by_name", "at", "reason"]
    decision = sa.table("decision", *(sa.column(name, UtcDateTime() if name == "at" else None) for name in names))
    asked = {
        "approval": "SELECT id, run_id, state, order_digest, decided_by, decided_name, decided_at, reason "
        "FROM approval WHERE decided_by IS NOT NULL",
        "escalation": "SELECT id, run_id, decided, NULL, decided_by, decided_name, decided_at, reason "
        "FROM escalation WHERE decided IS NOT NULL",
    }
    typed = {"decided_at": UtcDateTime()}
    for table, query in asked.items():
        for row in bind.execute(sa.text(query).columns(**typed)).all():
            answer, order = row[2], row[3]
            choice = answer if table == "escalation" else ("reject" if answer == "rejected" else "approve")
            bind.execute(
                sa.insert(decision).values(
                    id=secrets.token_hex(8),
                    run_id=row.run_id,
                    approval_id=row.id if table == "approval" else None,
                    escalation_id=row.id if table == "escalation" else None,
                    choice=choice,
                    order_digest=order,
                    by=row.decided_by,
                    by_name=row.decided_name or "",
                    at=row.decided_at,
                    reason=row.reason,
                )
            )


def _seal() -> None:
    """No event of before says what is in the rows beside it: one event an incident says it of all of them."""
    bind = op.get_bind()
    runs = _rows("run")
    of_runs = {table: _rows(table) for table in ("attempt", "verdict", "approval", "decision")}
    for incident in _rows("incident"):
        mine = [row for row in runs if row.incident_number == incident.number]
        ids = {row.id for row in mine}
        rows = {table: [row for row in found if row.run_id in ids] for table, found in of_runs.items()}
        ended = [row for row in rows["attempt"] if row.ended_at is not None]
        records: list[Any] = [
            evidence.incident(incident),
            *in_order(map(evidence.run, mine)),
            *in_order(map(evidence.start, rows["attempt"])),
            *in_order(map(evidence.result, ended)),
            *in_order(map(evidence.verdict, rows["verdict"])),
            *in_order(map(evidence.approval, rows["approval"])),
            *in_order(map(evidence.decision, rows["decision"])),
        ]
        link = Link(
            incident=incident.number,
            seq=incident.head_seq + 1,
            run_id=None,
            at=datetime.now(UTC),
            kind="history_sealed",
            actor="signalbox",
            text="What was kept before events spoke of it is bound to the chain from here on.",
            detail={SEALED: [said(record) for record in records]},
            move=None,
        )
        head = Head(link.seq, link.hash(incident.head_hash or EMPTY.hash))
        _keep(bind, link, head)


def _rows(name: str) -> list[Any]:
    """All rows of a table as it is now, with values as the models have them."""
    bind = op.get_bind()
    table = sa.Table(name, sa.MetaData(), autoload_with=bind, resolve_fks=False)
    for column in table.columns:
        if isinstance(column.type, sa.DateTime):
            column.type = UtcDateTime()
    return list(bind.execute(sa.select(table)).all())


def _keep(bind: sa.Connection, link: Link, head: Head) -> None:
    row = {
        "incident_number": link.incident,
        "seq": head.seq,
        "hash": head.hash,
        "at": link.at,
        "kind": link.kind,
        "actor": link.actor,
        "text": link.text,
        "detail": link.detail,
    }
    types: dict[str, Any] = {"at": UtcDateTime(), "detail": sa.JSON()}
    event = sa.table("event", *(sa.column(name, types.get(name)) for name in row))
    bind.execute(sa.insert(event).values(**row))
    incident = sa.table("incident", sa.column("number"), sa.column("head_seq"), sa.column("head_hash"))
    values = {"head_seq": head.seq, "head_hash": head.hash}
    bind.execute(sa.update(incident).where(incident.c.number == link.incident).values(**values))
