"""What a person read on the dashboard in a real browser, and that pressing and filling worked there."""

from __future__ import annotations

import pytest

from demo import plays
from demo.workspace.server import BEN
from tests.acceptance.story import Story

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


def test_the_button_pressed_on_the_page_is_what_approved(story: Story) -> None:
    """No other click of Ben's reached Signalbox."""
    [approval] = story.run.approvals
    assert approval.decided_by is not None
    assert approval.decided_by.id == BEN.id


def test_the_form_filled_on_the_page_is_the_note(story: Story) -> None:
    assert plays.NOTE["rule"] in story.patch
    assert plays.NOTE["what"] in story.read["incident, closed"]
    assert "diagnose drifted" in story.read["incident, closed"]


def test_the_list_says_who_is_waited_for_and_later_that_it_is_over(story: Story) -> None:
    waiting, closed = story.read["list, waiting"], story.read["list, closed"]

    assert "#1" in waiting
    assert "waits for" in waiting
    assert "disk-full" in waiting
    assert "waits for" not in closed
    assert "closed after" in closed


def test_the_page_of_the_incident_shows_the_run_and_what_each_gate_measured(story: Story) -> None:
    waiting, closed = story.read["incident, waiting"], story.read["incident, closed"]

    assert "A person is asked" in waiting
    assert "Approve" in waiting
    assert "A person is asked" not in closed
    for gate in ("diagnosis confirmed", "tests pass"):
        assert gate in waiting.lower()
    assert "production healthy" in closed.lower()
    for verdict in story.run.verdicts:
        for check in verdict.checks:
            assert check.check_id in closed
            assert check.why in closed
    assert "Timeline" in closed
    assert "resolved" in closed


def test_the_browser_had_nothing_to_complain_of(story: Story) -> None:
    """No script refused, no request broken, no style missing."""
    assert story.complaints == []
