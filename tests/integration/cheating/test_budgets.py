"""Agents that take more than they were given: each part of a budget ends them, and the halt says which."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from engine.agents.replay import Request, Turn, call, say
from engine.domain.agent import Budget
from engine.domain.gate import Json
from engine.domain.states import AttemptState, RunState
from tests.integration.cheating.stage import stage
from tests.integration.engine.an_agent import talks
from tests.integration.engine.conftest import Box

MANY = 1_000_000
DF: dict[str, Json] = {"argv": ["df", "srv"], "on": "vm"}


def asks_on(_: Request) -> Turn:
    """Calls once more, without end."""
    return say("Once more.", call("run", DF))


def asks_much(_: Request) -> Turn:
    """Ten calls at once, without end."""
    return say("", *(call("run", DF) for _ in range(10)))


def talks_much(_: Request) -> Turn:
    """A few calls with many words."""
    return say("All work and no play.", call("run", DF), tokens=(40_000, 8_000))


@pytest.mark.parametrize(
    ("script", "budget", "named", "most"),
    [
        (asks_on, Budget(requests=3, tokens=MANY, calls=MANY), "its budget of 3 requests is used up", 3),
        (talks_much, Budget(requests=99, tokens=90_000, calls=99), "its budget of 90,000 tokens is used up", 2),
        (asks_much, Budget(requests=99, tokens=MANY, calls=4), "its budget of calls is used up", 1),
        (asks_on, Budget(requests=99, tokens=MANY, calls=2), "its budget of 2 calls is used up", 3),
        (talks_much, Budget(requests=99, tokens=MANY, calls=99, microdollars=900_000), "its budget of $0.90", 3),
    ],
    ids=["requests", "tokens", "calls-at-once", "calls", "money"],
)
def test_a_budget_that_is_used_up_ends_it(
    box: Box, tmp_path: Path, script: object, budget: Budget, named: str, most: int
) -> None:
    assert callable(script)
    with stage(box, tmp_path, script, budget=budget) as at:
        run = at.go()
        channel = at.channel()
        asked = len(at.server.requests)

    (talk,) = talks(box)
    assert (run.state, at.attempt("diagnose").state) == (RunState.HALTED, AttemptState.FAILED)
    assert asked <= most
    assert talk.requests <= most
    assert len(at.shop.commands) <= budget.calls
    assert named in channel
    assert box.hypervisor.ran == ["diagnose"]


def test_it_never_ends_and_its_time_ends_it(box: Box, tmp_path: Path) -> None:
    """Its model says nothing more; the step's timeout is the end of both."""
    over = Event()

    def hangs(_: Request) -> Turn:
        over.wait(60)
        return asks_on(_)

    with stage(box, tmp_path, hangs, timeout_s=8) as at:
        run = at.go()
        channel = at.channel()
        over.set()

    assert (run.state, at.attempt("diagnose").state) == (RunState.HALTED, AttemptState.FAILED)
    assert at.shop.commands == []
    assert "time" in channel
    assert box.hypervisor.ran == ["diagnose"]
