"""What an attempt prints is there for people while it runs, masked; and what is left of one whose worker died."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.domain.errors import Unavailable
from engine.domain.ports import TaskResult
from engine.domain.states import AttemptState
from engine.store import logs
from engine.store.session import Session
from tests.doubles.engine import ended
from tests.integration.engine.conftest import ANA, Box
from tests.integration.engine.test_crash import die_in


def eventually(look: Callable[[], str], want: str) -> str:
    """What `look` sees when `want` is in it."""
    deadline = time.monotonic() + 10
    while want not in (seen := look()):
        assert time.monotonic() < deadline, seen
    return seen


def printed(box: Box) -> str:
    """What the newest attempt has printed, as its page shows it."""
    attempts = box.run().attempts
    return attempts[-1].printed if attempts else ""


def test_output_is_seen_while_the_attempt_runs_and_once_when_it_has_ended(box: Box) -> None:
    seen = []

    def running() -> TaskResult:
        seen.append(eventually(lambda: printed(box), "second"))
        assert box.run().attempts[-1].state is AttemptState.STARTED
        return replace(ended(), stdout="first\nsecond\n")

    box.hypervisor.prints["diagnose"] = ("first\n", "second\n")
    box.hypervisor.behaviour["diagnose"] = running
    box.until_approval()

    assert seen == ["first\nsecond\n"]
    attempt = box.run().attempts[0]
    assert (attempt.state, attempt.stdout, attempt.printed) == (AttemptState.FINISHED, "first\nsecond\n", "")


def test_no_secret_is_stored_that_two_pieces_make_together(box: Box) -> None:
    box.secrets.masks = "hunter2"
    box.hypervisor.prints["diagnose"] = ("hunt", "er2\n")
    box.until_approval()

    with box.database.reading() as session:
        [text] = logs.texts(session, [box.run().attempts[0].id]).values()
    assert "hunter2" not in text
    assert text.endswith("\n")


def test_what_a_dead_workers_attempt_had_printed_is_still_there(box: Box) -> None:
    box.hypervisor.prints["production"] = ("half of it \0 is done\n",)
    box.service.approve(box.until_approval(), ANA, yes=True)
    die_in(box, "production")
    box.restart()

    attempt = box.run().attempts[-1]
    assert attempt.state is AttemptState.UNKNOWN
    assert attempt.printed == "half of it \N{REPLACEMENT CHARACTER} is done\n"


def test_a_log_that_cannot_be_written_costs_the_attempt_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def away(_session: Session, attempt_id: str, *_: object) -> None:
        tried.append(attempt_id)
        raise Unavailable("the database did not answer")

    monkeypatch.setattr(logs, "keep", away)
    box.hypervisor.prints["diagnose"] = ("first\n",)
    box.until_approval()

    assert tried == [box.run().attempts[0].id]
    assert box.run().attempts[0].state is AttemptState.FINISHED
