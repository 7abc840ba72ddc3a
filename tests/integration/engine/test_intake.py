"""Alerts in: verified, kept, drained, deduplicated."""

from __future__ import annotations

import threading

import pytest

from engine.coordination import intake
from engine.domain.alert import Alert, Severity
from engine.domain.errors import BadInput, Conflict, Unauthenticated
from engine.domain.states import IncidentState, RunState
from engine.orchestration.watch import Watch
from engine.store import inbox
from tests.integration.engine.conftest import ANA, Box

TOKEN = {"Authorization": "Bearer token"}


def test_a_repeated_delivery_counts_once(box: Box) -> None:
    assert box.service.receive("fake", TOKEN, b"ToyBroken firing") is True
    assert box.service.receive("fake", TOKEN, b"ToyBroken firing") is False
    box.watch.drain()

    assert len(box.service.incidents()) == 1


def test_an_unauthenticated_body_is_not_kept(box: Box) -> None:
    with pytest.raises(Unauthenticated):
        box.service.receive("fake", {}, b"ToyBroken firing")
    box.watch.drain()

    assert box.service.incidents() == ()


def test_an_authenticated_body_that_makes_no_sense_is_kept_with_its_reason(box: Box) -> None:
    box.service.receive("fake", TOKEN, b"nonsense")
    box.fire()

    with box.database.reading() as session:
        assert inbox.rejected(session) == 1
    assert len(box.service.incidents()) == 1


def test_an_alert_that_no_runbook_takes_opens_an_incident_without_a_run(box: Box) -> None:
    box.fire(b"Unheard firing")

    incident = box.incident()
    assert incident.runs == ()
    assert incident.choose_token is not None
    assert incident.runbooks == ("toy",)


def test_an_input_out_of_bounds_opens_no_run_and_says_why(box: Box) -> None:
    box.fire(b"ToyBroken firing /etc; rm -rf /")

    assert box.incident().runs == ()
    assert "out of bounds" in next(event.text for event in box.incident().events if event.kind == "runbook_refused")


def test_a_chooser_is_good_for_one_run(box: Box) -> None:
    box.fire(b"Unheard firing")
    token = box.incident().choose_token
    assert token is not None
    box.service.choose_runbook(token, ANA, "toy")

    with pytest.raises(Conflict):
        box.service.choose_runbook(token, ANA, "toy")


def test_an_incident_declared_by_hand_can_run_a_runbook(box: Box) -> None:
    incident = box.service.declare(ANA, "the toy <smells>", Severity.HIGH, "toy")

    assert incident.runs[0].state is RunState.QUEUED
    assert incident.title == "the toy <smells>"


def test_an_incident_needs_a_title(box: Box) -> None:
    with pytest.raises(BadInput):
        box.service.declare(ANA, "   ", Severity.HIGH, None)


def test_an_incident_with_an_active_run_cannot_be_closed(box: Box) -> None:
    box.until_approval()

    with pytest.raises(Conflict):
        box.service.close(1, ANA)


def test_an_incident_without_a_run_closes(box: Box) -> None:
    box.fire(b"Unheard firing")

    assert box.service.close(1, ANA).state is IncidentState.CLOSED
    box.fire(b"Unheard firing")
    assert len(box.service.incidents()) == 1


def test_firing_resolved_and_firing_again_is_news_even_when_the_bodies_are_the_same(box: Box) -> None:
    """Alertmanager sends a lapsed alert that comes back byte for byte as it was first sent."""
    box.fire(b"Unheard firing")
    box.fire(b"Unheard resolved")
    box.fire(b"Unheard firing")

    incident = box.incident()
    assert [alert.status for alert in incident.alerts] == ["firing"]
    assert "alert_fired_again" in [event.kind for event in incident.events]


def test_a_lapsed_alert_that_comes_back_after_its_incident_was_closed_opens_another(box: Box) -> None:
    box.fire(b"Unheard firing")
    box.fire(b"Unheard resolved")
    box.service.close(1, ANA)
    box.fire(b"Unheard firing")

    assert [row.state for row in box.service.incidents()] == [IncidentState.OPEN, IncidentState.CLOSED]


def test_a_body_that_breaks_us_is_set_aside_and_the_next_one_has_its_turn(box: Box) -> None:
    def explode(body: bytes) -> tuple[Alert, ...]:
        raise ZeroDivisionError("a defect")

    trigger = box.adapters.triggers["fake"]
    parse = trigger.parse
    trigger.parse = explode  # type: ignore[method-assign]  # a defect, as it would be
    box.fire(b"Broken firing")
    trigger.parse = parse  # type: ignore[method-assign]  # mended
    box.fire(b"Unheard firing")

    with box.database.reading() as session:
        assert inbox.rejected(session) == 1
    assert [row.title for row in box.service.incidents()] == ["Unheard on toy"]


def test_two_watches_take_bodies_in_the_order_of_their_arrival(box: Box) -> None:
    """A resolve that overtakes its firing would have nothing to end, and the alert would fire for ever."""
    box.service.receive("fake", TOKEN, b"ToyBroken firing")
    box.service.receive("fake", TOKEN, b"ToyBroken resolved")
    other = threading.Thread(target=Watch(box.database, box.adapters).drain)
    with box.database.transaction() as session:
        row = inbox.oldest_pending(session)
        assert row is not None
        intake.work_off(session, row, box.adapters.triggers, box.adapters.shelf, box.clock.now())
        other.start()
        other.join(0.3)  # it waits for us, or it has overtaken us
    other.join(10)

    assert [alert.status for alert in box.incident().alerts] == ["resolved"]


def test_a_body_that_broke_one_watch_and_was_worked_off_by_another_is_not_set_aside_nor_is_the_next(box: Box) -> None:
    box.fire(b"ToyBroken firing")
    box.service.receive("fake", TOKEN, b"Unheard firing")
    with box.database.transaction() as session:
        intake.set_aside(session, 1, "a defect of the other watch")
    box.watch.drain()

    with box.database.reading() as session:
        assert inbox.rejected(session) == 0
    assert len(box.service.incidents()) == 2
