"""Every path of a runbook in which an agent may ask about a call: none makes it without the yes, on a whole machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.coordination import calls
from engine.domain.agent import AgentRule, Budget, CommandRule, Tools
from engine.domain.runbook import ScriptStep, Snapshot, Tool
from engine.domain.states import RunState
from engine.orchestration.conversation import AttemptConversation
from engine.simulation.explore import simulate
from tests.integration.simulation.short import INPUTS, kept, short

pytestmark = pytest.mark.timeout(300)


def with_an_agent() -> Snapshot:
    """The short runbook, of which an agent diagnoses, with one call that takes a yes."""
    runbook = short().runbook
    tools = Tools(run=(CommandRule(argv=("simulated",), ask=True),))
    rule = AgentRule(model="careful", budget=Budget(requests=9, tokens=9, calls=9), tools=tools)
    steps = tuple(
        replace(step, tool=Tool.AGENT, agent=rule) if isinstance(step, ScriptStep) and step.id == "diagnose" else step
        for step in runbook.steps
    )
    return kept(replace(runbook, steps=steps))


def test_no_path_makes_a_call_without_its_yes_and_asking_is_on_some() -> None:
    found = simulate(with_an_agent(), INPUTS)

    assert found.violations == []
    assert found.left == 0
    assert "diagnose: asks about a call" in {edge.name for edge in found.edges}
    assert (RunState.AWAITING_APPROVAL, "diagnose") in {(node.state, node.leg) for node in found.nodes}
    assert "yes to a call of diagnose" in {asked for node in found.nodes for asked in node.asked}


def test_a_machine_that_holds_a_yes_to_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hold it to the order that was shown: the boundary, and the journal when the call begins."""
    monkeypatch.setattr(calls, "mismatch", lambda *_: "")
    monkeypatch.setattr(AttemptConversation, "_must_be_allowed", lambda *_: None)

    found = simulate(with_an_agent(), INPUTS, first_only=True)

    assert "diagnose made a call that nobody said yes to" in {violation.what for violation in found.violations}
