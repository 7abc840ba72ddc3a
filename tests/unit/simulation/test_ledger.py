"""The ledger believes nobody: each thing that must not be is seen, and only that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engine.domain.journey import plan
from engine.domain.runbook import Runbook
from engine.domain.states import Decision
from engine.simulation.ledger import Course, Ledger
from tests.doubles.toy import toy_runbook

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTENT, UNDO, IMAGE = "the fix", "the undoing", "the image"


def course(runbook: Runbook) -> Course:
    journey = plan(runbook)
    return Course(runbook, journey.line, tuple(leg for line in journey.rollbacks for leg in line))


COURSE = course(toy_runbook())


def held(ledger: Ledger, gate: str, at: datetime = NOW) -> Ledger:
    return ledger.measured(COURSE.leg(gate), at, held=True)


def did(ledger: Ledger, leg: str, content: str = CONTENT, at: datetime = NOW, image: str = IMAGE) -> Ledger:
    return ledger.worked(COURSE, COURSE.leg(leg), content, image, at).finished(COURSE, COURSE.leg(leg), content)


def to_production() -> Ledger:
    """All the way to production, as it should be."""
    ledger = held(did(Ledger(), "diagnose"), "confirmed")
    ledger = did(did(ledger, "staging:rehearse"), "staging:rollback", UNDO)
    return held(did(held(ledger, "staging:rollback-gate"), "staging"), "tests-pass")


def test_the_way_as_it_should_be_is_clean() -> None:
    ledger = did(to_production().approved("production", IMAGE), "production")

    assert ledger.wrong == ()
    assert [change.target for change in ledger.changes] == ["staging", "staging", "staging", "production"]
    undone = did(ledger.decided(Decision.ROLL_BACK), "production:rollback", UNDO)
    assert held(undone, "production:rollback-gate").wrong == ()


@pytest.mark.parametrize(
    ("ledger", "says"),
    [
        (did(Ledger(), "staging:rehearse"), "the gate confirmed before it did not hold"),
        (did(did(held(Ledger(), "confirmed"), "diagnose"), "staging:rehearse"), "the gate confirmed before it did not"),
        (did(held(Ledger(), "confirmed", NOW - timedelta(hours=1)), "staging:rehearse"), "held too long ago"),
        (did(did(held(Ledger(), "confirmed"), "staging:rehearse"), "staging:rehearse"), "was not measured again"),
        (did(did(held(Ledger(), "confirmed"), "staging:rehearse"), "staging:rehearse"), "nobody decided for another"),
        (did(held(Ledger(), "confirmed").resolved(), "staging:rehearse"), "the source had said that it is over"),
        (did(to_production(), "production"), "nobody said yes to it"),
        (did(to_production().approved("production", IMAGE).halted(), "production"), "nobody said yes to it"),
        (did(to_production().approved("production", IMAGE), "production", image="another"), "nobody said yes to it"),
        (
            did(to_production().approved("production", IMAGE), "production", "another"),
            "was not tested on an unprotected",
        ),
        (did(to_production(), "production:rollback", UNDO), "nobody decided to roll back"),
        (did(to_production().decided(Decision.ROLL_BACK), "production:rollback", "another"), "was not tested"),
    ],
)
def test_what_must_not_be_is_seen(ledger: Ledger, says: str) -> None:
    assert any(says in what for what in ledger.wrong), ledger.wrong


def test_a_rollback_needs_a_decision_each_time() -> None:
    ledger = did(to_production().decided(Decision.ROLL_BACK), "production:rollback", UNDO)

    assert ledger.wrong == ()
    assert did(ledger, "production:rollback", UNDO).wrong != ()
    assert did(ledger.decided(Decision.RETRY), "production:rollback", UNDO).wrong == ()


def test_a_gate_that_did_not_hold_is_not_behind_a_run() -> None:
    assert to_production().passed(COURSE, "production") == []
    failed = to_production().measured(COURSE.leg("tests-pass"), NOW, held=False)
    assert failed.passed(COURSE, "tests-pass") == []
    assert failed.passed(COURSE, "production") == ["it went past the gate tests-pass, which did not hold"]
