"""An incident with everything in it that is evidence, its anchors and its export; and what a forger can do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.chain import EMPTY, Head
from engine.domain.states import Decision, RunState, Verdict
from engine.evidence import bundle, key
from engine.evidence.anchor import AnchorFile, look
from engine.evidence.verify import Report, verify
from engine.orchestration.anchoring import Anchoring
from engine.store import chain, models
from engine.store.evidence import dossier
from tests.integration.engine.conftest import ANA, BEN, Box

TABLES = ("event", "verdict", "decision")


@dataclass
class Prover:
    """Anchors and exports the box's incident."""

    box: Box
    folder: Path

    def __post_init__(self) -> None:
        self.secret = key.kept_in(self.folder / "anchor.key")
        self.path = self.folder / "anchors.jsonl"
        self.file = AnchorFile(self.path, self.secret)
        self.anchoring = Anchoring(self.box.database, self.file, self.box.clock, 60)
        public = self.secret.public_key()
        self.keys = {key.fingerprint(public): public}

    def anchor(self) -> None:
        """One round that finds nothing wrong."""
        self.anchoring.round()
        assert self.anchoring.unwell == {}

    def export(self, session: Session) -> bytes:
        """As the command does."""
        return bundle.write(dossier(session, 1), look(self.path, 1, self.keys).lines)

    def verify(self, data: bytes) -> Report:
        """As the command does."""
        return verify(bundle.read(data), self.keys)

    def verified(self) -> Report:
        """Export and verify what is in the database now."""
        with self.box.database.reading(one_moment=True) as session:
            return self.verify(self.export(session))

    @contextlib.contextmanager
    def forging(self) -> Iterator[Session]:
        """A session of somebody who owns the database; what is done in it is rolled back."""
        with self.box.database.engine.connect() as connection, Session(connection) as session:
            for statement in without_triggers(self.box.database.dialect):
                session.execute(sa.text(statement))
            yield session
            session.rollback()


def without_triggers(dialect: str) -> list[str]:
    """History may be written."""
    if dialect == "sqlite":
        return [f"DROP TRIGGER {table}_no_{verb}" for table in TABLES for verb in ("update", "delete")]
    return [f"DROP TRIGGER {table}_append_only ON {table}" for table in TABLES]


def live_through(prover: Prover) -> None:
    """An approval that was extended and given, a change that went wrong, a rollback that a person decided."""
    box = prover.box
    box.gates.verdicts["healthy-outside"] = Verdict.FAILED
    token = box.until_approval()
    prover.anchor()
    box.clock.pass_time(minutes=15)
    box.service.extend(token, BEN)
    box.service.approve(token, ANA, yes=True)
    box.go()
    prover.anchor()
    box.service.decide(box.run().escalations[-1].token, BEN, Decision.ROLL_BACK, reason="the page says 500\x00")
    box.go()
    assert box.run().state is RunState.ROLLED_BACK
    prover.anchor()


def recompute(session: Session) -> None:
    """Every hash anew, and the head: what somebody without the signing key can do."""
    head = EMPTY
    for row in session.scalars(sa.select(models.Event).order_by(models.Event.seq)):
        head = Head(row.seq, replace(chain.link_of(row), seq=row.seq).hash(head.hash))
        row.hash = head.hash
    session.get_one(models.Incident, 1).head_seq = head.seq
    session.get_one(models.Incident, 1).head_hash = head.hash
    session.flush()
