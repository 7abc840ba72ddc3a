"""Runs: what was tried, what gates found, what is held while it lasts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from engine.domain.states import FINAL, AttemptState, RunState, Verdict
from engine.store.models.base import Base, MaybeMoment, Moment, only_one
from engine.store.types import states

_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))


class Run(Base):
    """One journey of a runbook. `version` is the fence: a write applies only to the version that was read.

    `worker`: who has claimed it. `not_before`: nothing of it starts earlier, since a VM that nobody could see dead may
    live until then. `wake_at`: when somebody must look at it again if nothing happens before.
    """

    __tablename__ = "run"
    __table_args__ = (only_one("uq_run_active_per_incident", "incident_number", f"state not in ({_FINAL})"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    incident_number: Mapped[int] = mapped_column(sa.ForeignKey("incident.number"), index=True)
    runbook: Mapped[str]
    runbook_digest: Mapped[str]
    source: Mapped[str] = mapped_column(deferred=True, deferred_group="runbook")
    files: Mapped[dict[str, Any]] = mapped_column(deferred=True, deferred_group="runbook")
    inputs: Mapped[dict[str, Any]]
    state: Mapped[RunState] = mapped_column(states(RunState, "state"), index=True)
    leg: Mapped[str]
    version: Mapped[int] = mapped_column(default=0)
    waits_for: Mapped[str] = mapped_column(default="")
    chosen_by: Mapped[str]
    opened_at: Moment
    deadline_at: Moment
    ended_at: MaybeMoment
    worker: Mapped[str | None] = mapped_column(sa.ForeignKey("worker.id"), index=True)
    pool: Mapped[str] = mapped_column(default="default")
    priority: Mapped[int] = mapped_column(default=0)
    not_before: MaybeMoment
    wake_at: MaybeMoment = mapped_column(index=True)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - read by SQLAlchemy when the class is made


class Artefact(Base):
    """The bytes of what a step produced, known by digest. Checked against it at every use."""

    __tablename__ = "artefact"

    digest: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[bytes]


class Attempt(Base):
    """One try of a step in one VM. At most one started attempt per run: no step ever runs twice at once.

    `dead_by`: by then its VM has ended itself, even if nobody is left to destroy it.
    """

    __tablename__ = "attempt"
    __table_args__ = (only_one("uq_attempt_started_per_run", "run_id", "state = 'started'"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    leg: Mapped[str]
    step: Mapped[str]
    target: Mapped[str | None]
    changes: Mapped[bool]
    idempotent: Mapped[bool]
    state: Mapped[AttemptState] = mapped_column(states(AttemptState, "state"))
    worker: Mapped[str]
    started_at: Moment
    ended_at: MaybeMoment
    dead_by: MaybeMoment
    content_digest: Mapped[str]
    order_digest: Mapped[str]
    uses_digest: Mapped[str | None]
    artefact_digest: Mapped[str | None] = mapped_column(sa.ForeignKey("artefact.digest"))
    reason: Mapped[str] = mapped_column(default="")
    stdout: Mapped[str] = mapped_column(default="")
    stderr: Mapped[str] = mapped_column(default="")
    output: Mapped[dict[str, Any] | None]
    connections: Mapped[list[Any]] = mapped_column(default=list)
    late: Mapped[bool] = mapped_column(default=False)


class AttemptLog(Base):
    """The end of what an attempt has printed so far, redacted. All that there is of one whose worker died."""

    __tablename__ = "attempt_log"

    attempt_id: Mapped[str] = mapped_column(sa.ForeignKey("attempt.id"), primary_key=True)
    text: Mapped[str]
    updated_at: Moment


class GateVerdict(Base):
    """What one gate found, with its evidence verbatim. Never changed afterwards (append-only by trigger).

    `late`: it came when the run had moved on (or another worker measured): evidence that opens nothing.
    """

    __tablename__ = "verdict"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    leg: Mapped[str]
    of: Mapped[str]
    verdict: Mapped[Verdict] = mapped_column(states(Verdict, "verdict"))
    why: Mapped[str]
    checks: Mapped[list[Any]]
    begun_at: Moment
    ended_at: Moment
    late: Mapped[bool] = mapped_column(default=False)


class TargetLock(Base):
    """One run at a time per target that it writes or that its gates measure."""

    __tablename__ = "target_lock"

    target: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("run.id"), index=True)
    taken_at: Moment


class VaultToken(Base):
    """A token that we minted, until it is proved dead. What a crashed process minted is found here."""

    __tablename__ = "vault_token"

    accessor: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(index=True)
    attempt_id: Mapped[str]
    kind: Mapped[str]
    minted_at: Moment
    revoked_at: MaybeMoment
    failure: Mapped[str] = mapped_column(default="")


class Move(Base):
    """The table of moves (engine.domain.states), held by the database too."""

    __tablename__ = "move"

    source: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    because: Mapped[str]
