"""An agent's step with everything that is ours: the real loop in bubblewrap, the real proxy, the real journal, and a
model of the tests'. Only its VM is played."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from engine.agents.models import load_models
from engine.agents.proxy import ModelProxy
from engine.agents.replay import Call, ReplayServer, ScriptedModel, Turn, call, say
from engine.agents.work import AgentWork
from engine.domain.agent import AgentRule, Budget, CallState, CommandRule, Tools, Where
from engine.domain.gate import Json
from engine.domain.runbook import OutputRule, ScriptStep, Tool
from engine.domain.states import ApprovalState, AttemptState, RunState
from tests.doubles.toy import toy_runbook
from tests.integration.engine.an_agent import calls, talks
from tests.integration.engine.conftest import ANA, Box
from tests.integration.engine.test_crash import Killed

KEY = "sk-test-of-the-provider"
DF: dict[str, Json] = {"argv": ["df", "srv"], "on": "vm"}
STATUS: dict[str, Json] = {"argv": ["systemctl", "status", "checkout"], "on": "target"}
FOUND: dict[str, Json] = {"cause": "log_growth"}
SCRIPT: list[Turn | Call] = [
    say("I look.", call("run", DF)),
    say("Which unit?", call("run", STATUS)),
    call("finish", FOUND),
]
MODELS = """
careful:
  api: anthropic
  model: scripted
  url: {url}
  key_file: key
  price: {{input: 1, output: 1}}
"""
TOOLS = Tools(
    run=(
        CommandRule(argv=("df", "*")),
        CommandRule(argv=("systemctl", "status", "*"), on=Where.TARGET, ask=True),
    )
)


@contextmanager
def at_work(box: Box, folder: Path) -> Iterator[ReplayServer]:
    """The toy whose first step is an agent's, with a model that follows the script."""
    rule = AgentRule(model="careful", budget=Budget(requests=10, tokens=1_000_000, calls=9), tools=TOOLS)
    toy = toy_runbook()
    output = OutputRule(required=("cause",), enums={"cause": ("log_growth", "unknown")})
    steps = tuple(
        replace(step, tool=Tool.AGENT, agent=rule, output=output, timeout_s=120)
        if isinstance(step, ScriptStep) and step.id == "diagnose"
        else step
        for step in toy.steps
    )
    box.shelf.runbook = replace(toy, steps=steps)
    with ReplayServer(ScriptedModel(SCRIPT), key=KEY) as server:
        (folder / "key").write_text(KEY)
        (folder / "models.yaml").write_text(MODELS.format(url=server.url))
        proxy = ModelProxy(lambda: load_models(folder / "models.yaml"))
        box.adapters = replace(box.adapters, agents=AgentWork(proxy, lambda: ""))
        box.start()
        yield server


def ran(box: Box) -> list[str]:
    """The commands that were made in a VM, those of ours left out."""
    return [" ".join(argv) for argv in box.hypervisor.guest.heard]


def test_it_looks_asks_is_allowed_goes_on_and_concludes(box: Box, tmp_path: Path) -> None:
    with at_work(box, tmp_path):
        token = box.until_approval()
        asked = box.run()
        assert asked.approvals[-1].order.preview == "systemctl status checkout"
        box.service.approve(token, ANA, yes=True)
        box.go()

    run = box.run()
    (talk,) = talks(box)
    assert [attempt.state for attempt in run.attempts[:2]] == [AttemptState.PAUSED, AttemptState.FINISHED]
    assert run.attempts[1].output == FOUND
    assert talk.requests == 3
    assert talk.tokens > 0
    assert talk.microdollars > 0
    assert sum("systemctl" in line for line in ran(box)) == 1
    assert [row.state for row in calls(box).values()] == [CallState.DONE, CallState.DONE]
    assert run.approvals[0].state is ApprovalState.CONSUMED
    assert KEY not in "".join(attempt.stdout for attempt in run.attempts)
    assert "Which unit?" in run.attempts[0].stdout
    assert run.state is RunState.AWAITING_APPROVAL


def test_a_worker_that_dies_in_a_call_costs_neither_the_budget_nor_a_second_call(box: Box, tmp_path: Path) -> None:
    guest, real = box.hypervisor.guest, box.hypervisor.guest.run
    crashes = iter([True])

    def run(argv: tuple[str, ...], timeout_s: float, output_limit: int) -> object:
        result = real(argv, timeout_s, output_limit)
        if argv[-2:] == ("df", "srv") and next(crashes, False):
            raise Killed
        return result

    guest.run = run  # type: ignore[method-assign,assignment]  # the worker dies after the command had its effect
    with at_work(box, tmp_path):
        box.fire()
        with pytest.raises(Killed):
            box.go()
        spent = talks(box)[0].requests
        box.restart()
        box.go()

    (talk,) = talks(box)
    assert box.run().state is RunState.AWAITING_APPROVAL
    assert [attempt.state for attempt in box.run().attempts] == [AttemptState.LOST, AttemptState.PAUSED]
    assert sum(line.endswith("df srv") for line in ran(box)) == 1
    assert "outcome is unknown" in calls(box)["call_1_1"].answer
    assert (spent, talk.requests) == (1, 2)
