"""The loop and the model proxy together: only our proxy has the key, and its budget is the one that holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.agents.replay import ReplayServer, ScriptedModel, call, say
from engine.agents.work import AgentWork
from engine.domain.agent import AgentEnd, Api, Budget, Usage
from engine.secrets.redact import Redactor
from tests.doubles.agents import RULE, MemoryGuest, MemoryJournal, agent_order
from tests.integration.agents.doors import model, proxy
from tests.integration.agents.provider import KEY

LOOKS = call("run", {"argv": ["df", "srv"], "on": "vm"})
FOUND = call("finish", {"cause": "log_growth", "evidence": ["df says 99%"]})


def _work(server: ReplayServer, api: Api, folder: Path, journal: MemoryJournal, budget: Budget) -> AgentEnd:
    worker = AgentWork(proxy(model(api, server.url, folder)), lambda: "")
    order = agent_order(replace(RULE, budget=budget))
    return worker.work(order, MemoryGuest(), journal, Redactor(), lambda _: None, lambda: False)


@pytest.mark.parametrize("api", list(Api))
def test_all_that_the_loop_asks_gets_through(api: Api, tmp_path: Path) -> None:
    """Tools, their answers and the typed output, in every wire format; each request is counted in the journal."""
    journal = MemoryJournal()
    with ReplayServer(ScriptedModel([say("I look.", LOOKS, tokens=(1000, 50)), FOUND]), key=KEY) as server:
        end = _work(server, api, tmp_path, journal, RULE.budget)

    assert end == AgentEnd(output=dict(FOUND.args))
    assert journal.conversation.usage.requests == 2
    assert journal.conversation.usage.tokens == 1050 + 120
    assert set(server.requests[0].tools) == {"run", "read", "write", "logs", "finish"}


def test_the_budget_goes_on_where_an_earlier_attempt_left_it(tmp_path: Path) -> None:
    """What is used up stays used up, and the reason says of what."""
    journal = MemoryJournal()
    journal.spend(Usage(requests=9, tokens=1000))
    with ReplayServer(ScriptedModel(lambda _: say("", LOOKS)), key=KEY) as server:
        end = _work(server, Api.ANTHROPIC, tmp_path, journal, RULE.budget)

    assert end.output is None
    assert end.reason == "it may ask the model no more: its budget of 10 requests is used up"
    assert len(server.requests) == 1


def test_a_budget_of_tokens_ends_it(tmp_path: Path) -> None:
    """The proxy refuses the request; the loop's own count is only a second line."""
    journal = MemoryJournal()
    budget = Budget(requests=50, tokens=20_000, calls=50)
    with ReplayServer(ScriptedModel(lambda _: say("", LOOKS, tokens=(9000, 2000))), key=KEY) as server:
        end = _work(server, Api.OPENAI, tmp_path, journal, budget)

    assert end.output is None
    assert "its budget of 20,000 tokens is used up" in end.reason
    assert len(server.requests) == 2
