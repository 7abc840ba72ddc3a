"""A runbook starts only as it was activated; a changed one starts nothing, and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.domain.errors import Conflict, Refused
from engine.domain.incident import Topic
from engine.domain.states import RunState
from engine.store import activations
from tests.integration.engine.conftest import ANA, BEN, Box


@pytest.fixture
def strict(box: Box) -> Box:
    """An installation as `engine.wiring` makes it: only what was activated starts."""
    box.adapters = replace(box.adapters, only_activated=True)
    box.start()
    return box


def activate(box: Box) -> None:
    with box.database.transaction() as session:
        activations.add(session, box.shelf.read("toy"), person=BEN, reason="", now=box.clock.now())


def withdraw(box: Box, reason: str) -> None:
    with box.database.transaction() as session:
        row = activations.newest(session, "toy")
        assert row is not None
        activations.withdraw(session, row, person=BEN, reason=reason, now=box.clock.now())


def told(box: Box) -> str:
    """What the incident says of the runbook that was not started."""
    incident = box.incident()
    assert incident.runs == ()
    assert incident.runbooks == ()
    [event] = [event for event in incident.events if event.kind == "runbook_not_activated"]
    assert Topic.ALERT_CHANGED in {item.topic for item in box.service.outbox_due(100)}
    return event.text


def test_what_was_activated_starts(strict: Box) -> None:
    activate(strict)
    strict.fire()

    assert strict.incident().runs[-1].state is RunState.QUEUED
    assert strict.service.runbooks() == ("toy",)


def test_what_was_never_activated_opens_an_incident_and_starts_nothing(strict: Box) -> None:
    strict.fire()

    text = told(strict)
    assert "runbook toy was never activated" in text
    assert "signalbox runbook activate toy" in text


def test_any_change_of_a_file_takes_the_activation_away(strict: Box) -> None:
    """A script beside the YAML counts as much. Putting it back is enough: then a person may choose it."""
    activate(strict)
    kept = strict.shelf.files["apply.sh"]
    strict.shelf.files["apply.sh"] = b"rm -rf /"
    strict.fire()
    text = told(strict)
    assert "runbook toy changed since Ben activated it on 20" in text
    assert "signalbox runbook diff toy --activated" in text

    strict.shelf.files["apply.sh"] = kept
    token = strict.incident().choose_token
    assert token is not None
    assert strict.incident().runbooks == ("toy",)
    assert strict.service.choose_runbook(token, ANA, "toy").runs[-1].state is RunState.QUEUED


def test_what_was_deactivated_starts_nothing_and_the_reason_is_told(strict: Box) -> None:
    activate(strict)
    withdraw(strict, "it wakes everybody")
    strict.fire()

    text = told(strict)
    assert "deactivated by Ben on 20" in text
    assert "it wakes everybody" in text


def test_a_person_cannot_start_it_either(strict: Box) -> None:
    """The chooser does not offer it, and a click of before is refused."""
    strict.fire(b"Unheard firing")
    token = strict.incident().choose_token
    assert token is not None
    assert strict.incident().runbooks == ()

    with pytest.raises(Refused, match="never activated"):
        strict.service.choose_runbook(token, ANA, "toy")
    with pytest.raises(Refused, match="never activated"):
        strict.service.declare(ANA, "it smells", strict.incident().severity, "toy")
    assert [len(strict.service.incident(row.number).runs) for row in strict.service.incidents()] == [0]

    activate(strict)
    assert strict.service.choose_runbook(token, ANA, "toy").runs[-1].state is RunState.QUEUED


def test_a_run_under_way_keeps_the_edition_that_it_started_with(strict: Box) -> None:
    activate(strict)
    strict.fire()
    withdraw(strict, "")
    strict.go()

    assert strict.run().state is RunState.AWAITING_APPROVAL


def test_what_was_said_is_never_changed(strict: Box) -> None:
    activate(strict)
    for statement in ("UPDATE activation SET digest = 'sha256:0'", "DELETE FROM activation"):
        with pytest.raises(Conflict, match="refused"), strict.database.transaction() as session:
            session.connection().exec_driver_sql(statement)


def test_without_the_demand_everything_starts(box: Box) -> None:
    box.fire()

    assert box.incident().runs[-1].state is RunState.QUEUED
