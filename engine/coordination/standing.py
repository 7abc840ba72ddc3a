"""Where a run stands, read from the database: for `engine.service` and for the gateway of a step's VM."""

from __future__ import annotations

from engine.domain import standing
from engine.domain.journey import Journey
from engine.domain.standing import Standing
from engine.store import models


def of_run(run: models.Run, journey: Journey) -> Standing:
    """Where this run stands on the journey of the runbook that it started with."""
    return standing.standing(
        journey, run=run.id, incident=run.incident_number, runbook=run.runbook, state=run.state, leg=run.leg
    )
