"""What the checks of a gate may refer to, read in the transaction that starts its measuring. Called by `boundary`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from engine.coordination import orders
from engine.coordination.orders import World
from engine.domain.errors import Refused, SignalboxError
from engine.domain.gate import Facts, Json
from engine.domain.journey import Journey, Leg, LegKind, Role
from engine.domain.runbook import ScriptStep, Snapshot
from engine.domain.states import AttemptState
from engine.domain.within import looked_into
from engine.store import models, runs
from engine.store.session import Session


def claims(session: Session, run_id: str) -> Mapping[str, Json]:
    """What the steps said themselves, newest word of each."""
    rows = runs.attempts(session, run_id)
    return {row.step: row.output for row in rows if row.state is AttemptState.FINISHED and row.output is not None}


def gate_facts(
    session: Session, run: models.Run, snapshot: Snapshot, journey: Journey, gate: Leg, world: World
) -> Facts:
    """What the checks of a gate may refer to. The digest of a step that did not run yet is that of its plan."""
    digests: dict[str, str] = {}
    for other in journey.line:
        if other.kind is LegKind.ATTEMPT and other.role is Role.FORWARD and isinstance(other.step, ScriptStep):
            try:
                plan = orders.work_out(session, run, snapshot, journey, other, world)
            except SignalboxError:
                continue  # not to be worked out yet: a check that refers to it finds no digest, and does not hold
            digests[other.step.id] = plan.content_digest
    for attempt in runs.attempts(session, run.id):
        if attempt.state is AttemptState.FINISHED and journey.leg(attempt.leg).role is not Role.ROLLBACK:
            digests[attempt.step] = attempt.content_digest
    hosts = {name: target.host for name, target in snapshot.runbook.targets.items()}
    changes = [row for row in runs.attempts(session, run.id) if row.leg == gate.of and row.changes]
    return Facts(
        inputs=dict(run.inputs),
        claims=claims(session, run.id),
        digests=digests,
        hosts=hosts,
        changed_at=changes[-1].ended_at if changes else None,
        begun_at=changes[0].started_at if changes else None,
        artefacts=_artefacts(session, run, gate),
    )


def _artefacts(session: Session, run: models.Run, gate: Leg) -> Mapping[str, bytes]:
    """What the gate's checks look into: the newest artefact of each step that they name, where there is one."""
    found: dict[str, bytes] = {}
    for step_id in {step_id for check in (*gate.checks, *gate.shadow) for step_id in looked_into(check)}:
        for attempt in runs.attempts(session, run.id):
            made = attempt.step == step_id and attempt.state is AttemptState.FINISHED and attempt.artefact_digest
            if made:
                with contextlib.suppress(Refused):  # gone, or not what its digest says: the check finds none
                    found[step_id] = runs.artefact(session, run.id, made)
    return found
