"""Which edition of a runbook alerts may start: a row each time that somebody activated one, never changed afterwards.

What ran before this release goes on as it is: of each runbook the edition of its newest run counts as activated.

Revision: 0005, after 0004.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from engine.store.types import UtcDateTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "activation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("runbook", sa.Text(), nullable=False),
        sa.Column("on", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("by_name", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activation")),
    )
    op.create_index(op.f("ix_activation_runbook"), "activation", ["runbook"])
    _what_ran_before()
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER activation_no_{verb.lower()} BEFORE {verb} ON activation "
                "BEGIN SELECT RAISE(ABORT, 'activation is append-only'); END"
            )
        return
    op.execute(
        "CREATE TRIGGER activation_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON activation "
        "FOR EACH STATEMENT EXECUTE FUNCTION signalbox_append_only()"
    )


def _what_ran_before() -> None:
    bind = op.get_bind()
    kept = ["runbook", "source", "files", "opened_at", "runbook_digest"]
    types: dict[str, sa.types.TypeEngine[object]] = {"files": sa.JSON(), "opened_at": UtcDateTime()}
    run = sa.table("run", *(sa.column(name, types.get(name)) for name in kept))
    names = ["runbook", "on", "digest", "source", "files", "by", "by_name", "at", "reason"]
    types = {"on": sa.Boolean(), "files": sa.JSON(), "at": UtcDateTime()}
    activation = sa.table("activation", *(sa.column(name, types.get(name)) for name in names))
    newest = {row.runbook: row for row in bind.execute(sa.select(run).order_by(run.c.opened_at))}
    for name, row in newest.items():
        bind.execute(
            sa.insert(activation).values(
                runbook=name,
                on=True,
                digest=row.runbook_digest,
                source=row.source,
                files=row.files,
                by="migration",
                by_name="the upgrade",
                at=datetime.now(UTC),
                reason="it ran before there were activations",
            )
        )
