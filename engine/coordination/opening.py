"""Opening a run: inputs bound to their rules, the runbook kept as it is now, the first move."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

from engine.coordination import machine
from engine.domain.alert import Alert, Severity
from engine.domain.errors import BadInput
from engine.domain.journey import plan
from engine.domain.records import said
from engine.domain.runbook import InputRule, Snapshot
from engine.domain.states import RunEvent, RunState
from engine.store import evidence, models, runs
from engine.store.ids import new_id
from engine.store.session import Session

PRIORITY = {Severity.CRITICAL: 40, Severity.HIGH: 30, Severity.WARNING: 20, Severity.UNKNOWN: 20, Severity.INFO: 10}
""" Of the runs that wait for a worker, the highest goes first. """


def open_run(
    session: Session,
    incident: models.Incident,
    snapshot: Snapshot,
    alert: Alert | None,
    *,
    chosen_by: str,
    now: datetime,
) -> models.Run:
    """A new run. Raises BadInput (an input is missing or out of bounds), Conflict (a second active run)."""
    runbook = snapshot.runbook
    run = models.Run(
        id=new_id(),
        incident_number=incident.number,
        runbook=runbook.name,
        runbook_digest=snapshot.digest,
        source=snapshot.source,
        files={path: base64.b64encode(data).decode() for path, data in snapshot.files.items()},
        inputs={rule.name: _bind(rule, alert) for rule in runbook.inputs},
        state=RunState.NEW,
        leg=plan(runbook).line[0].id,
        chosen_by=chosen_by,
        opened_at=now,
        deadline_at=now + timedelta(seconds=runbook.deadline_s),
        pool=runbook.pool,
        priority=PRIORITY[incident.severity],
    )
    runs.add(session, run)
    incident.choose_token = None
    return machine.move(
        session,
        run,
        RunEvent.OPENED,
        now,
        actor=chosen_by,
        text=f"Runbook {runbook.name} ({snapshot.digest[7:19]}) opened.",
        detail={"runbook": runbook.name, "digest": snapshot.digest, "inputs": run.inputs, **said(evidence.run(run))},
    )


def files_of(run: models.Run) -> dict[str, bytes]:
    """The runbook's files as the run keeps them."""
    return {path: base64.b64decode(text) for path, text in run.files.items()}


def _bind(rule: InputRule, alert: Alert | None) -> str:
    """The value of an input; an incident declared by hand can bind only inputs that allow a single value."""
    if alert is None:
        if len(rule.enum) == 1:
            return rule.enum[0]
        raise BadInput(f"input {rule.name} comes from an alert, and there is none", "start this runbook from its alert")
    _, group, name = rule.source.split(".", 2)
    value = (alert.labels if group == "labels" else alert.annotations).get(name)
    if value is None:
        raise BadInput(f"the alert has no {rule.source.removeprefix('alert.')} for input {rule.name}")
    if not rule.takes(value):
        raise BadInput(f"input {rule.name} is out of bounds: {value[:80]!r}")
    return value
