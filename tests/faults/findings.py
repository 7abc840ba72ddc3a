"""What a fault cost: read from the database and from the records of the targets, after the dust has settled."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from engine.domain.states import FINAL, MOVES, WAITS_FOR_A_PERSON
from engine.store import models
from engine.store.session import Database

ENDED_OR_ASKED = frozenset(move.event.value for move in MOVES if move.target in FINAL | WAITS_FOR_A_PERSON)
""" Events after which a run has ended, or a person is asked. """
OVERLAP_S = 0.1
""" Two records are compared by the clock of one machine; a tick is 0.02 s. """


@dataclass
class Findings:
    """Of one try. Each line says what exactly; none is good."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    recovery_s: float | None = None


@dataclass(frozen=True)
class Fault:
    """One fault. `until`: from when on the world was whole again, by the clock of this machine."""

    at: float
    until: float


def lines(records: Path, run_id: str) -> list[dict[str, Any]]:
    """Everything that the VMs of a run said, in order."""
    path = records / f"{run_id}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def doubled(said: Iterable[Mapping[str, Any]], decided: Collection[float], idempotent: Collection[str]) -> list[str]:
    """What was changed twice without a person's decision between, and what ran at once with another VM of its run."""
    found = []
    said = list(said)
    changed = Counter(
        (line["leg"], sum(moment < line["at"] for moment in decided)) for line in said if line["what"] == "effect"
    )
    found += [
        f"{leg} changed its target {n} times" for (leg, _), n in changed.items() if n > 1 and leg not in idempotent
    ]
    spans: dict[str, tuple[float, float]] = {}
    for line in said:
        begun, _ = spans.get(line["task"], (line["at"], 0.0))
        spans[line["task"]] = (begun, line["at"])
    ordered = sorted(spans.values())
    for (_, ended), (begun, _) in itertools.pairwise(ordered):
        if begun < ended - OVERLAP_S:
            found.append(f"two VMs of one run at once, for {ended - begun:.2f} s")
    return found


def examine(
    database: Database,
    records: Path,
    numbers: Mapping[int, str],
    fault: Fault,
    hung_after_s: float,
    idempotent: Collection[str],
) -> Findings:
    """The incidents of one try. `numbers`: number of each -> its alert. `idempotent`: legs that may run again."""
    found = Findings()
    with database.reading() as session:
        for run in session.scalars(sa.select(models.Run).where(models.Run.incident_number.in_(numbers))):
            name = numbers[run.incident_number]
            decisions = sa.select(models.PersonDecision.at).where(models.PersonDecision.run_id == run.id)
            decided = [at.timestamp() for at in session.scalars(decisions)]
            found.doubled += [f"{name}: {what}" for what in doubled(lines(records, run.id), decided, idempotent)]
            asked = sa.select(models.Event.at).where(
                models.Event.run_id == run.id, models.Event.kind.in_(ENDED_OR_ASKED)
            )
            answers = [at.timestamp() for at in session.scalars(asked)]
            found.hung += _hung(name, run, answers, fault, hung_after_s)
    return found


def _hung(name: str, run: models.Run, answers: Collection[float], fault: Fault, hung_after_s: float) -> list[str]:
    """A run that neither ended nor asked a person soon enough, counted from when the world was whole again."""
    since = max(fault.until, run.opened_at.timestamp())
    if any(fault.at <= moment <= since + hung_after_s for moment in answers):
        return []
    if run.ended_at is not None and run.ended_at.timestamp() < fault.at:
        return []
    late = [moment - since for moment in answers if moment > since]
    return [f"{name}: {run.state}, " + (f"only after {min(late):.1f} s" if late else "never")]


def first_sign(database: Database, numbers: Collection[int], after: float) -> float | None:
    """How long after a moment the first of these incidents moved again."""
    moment = datetime.fromtimestamp(after, UTC)
    query = sa.select(sa.func.min(models.Event.at)).where(
        models.Event.incident_number.in_(numbers), models.Event.at > moment
    )
    with database.reading() as session:
        at = session.scalar(query)
    return at.timestamp() - after if at is not None else None


def all_ended(database: Database, alerts: Collection[str]) -> dict[int, str] | None:
    """Number of each incident -> its alert, when each of these alerts has a run that ended; None before."""
    query = sa.select(models.Incident.number, models.Incident.title, models.Run.state).join(
        models.Run, models.Run.incident_number == models.Incident.number, isouter=True
    )
    with database.reading() as session:
        rows = session.execute(query.where(models.Incident.title.in_([f"{name} on toy" for name in alerts]))).all()
    known = {number: title.removesuffix(" on toy") for number, title, state in rows if state in FINAL}
    return known if set(known.values()) == set(alerts) and len(rows) == len(alerts) else None


def opened(database: Database) -> Counter[str]:
    """How many incidents each alert opened."""
    with database.reading() as session:
        return Counter(title.removesuffix(" on toy") for title in session.scalars(sa.select(models.Incident.title)))


def answered(database: Database, token: str) -> int:
    """How many decisions are recorded on the question of this button."""
    approval = sa.select(models.Approval.id).where(models.Approval.token == token)
    raised = sa.select(models.Escalation.id).where(models.Escalation.token == token)
    with database.reading() as session:
        query = sa.select(sa.func.count()).select_from(models.PersonDecision)
        ours = models.PersonDecision.approval_id.in_(approval) | models.PersonDecision.escalation_id.in_(raised)
        return session.scalar(query.where(ours)) or 0
