"""`signalbox runbook ...` and `signalbox grants` on a runbook with agents, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.runbooks import skeleton
from engine.runbooks.format import schema
from tests.integration.cli.test_runbook import Run, commit, folder, run

__all__ = ["folder", "run"]


@pytest.fixture
def with_agents(folder: Path) -> str:
    """A runbook whose diagnosis and fix are an agent's, beside the others."""
    name = "by-agents"
    (folder / f"{name}.yaml").write_text(skeleton.AGENT.text.replace("\nname: example\n", f"\nname: {name}\n"))
    (folder / name).mkdir()
    for file, data in {**skeleton.AGENT.files, "tests.yaml": skeleton.FILES["tests.yaml"]}.items():
        (folder / name / file).write_bytes(data)
    return name


def test_an_agents_step_goes_through_every_command(run: Run, folder: Path, with_agents: str) -> None:
    for verb in ("lint", "graph", "show", "test"):
        done = run("runbook", verb, with_agents)
        assert done.exit_code == 0, done.output
    assert "agent careful told diagnose.md" in run("runbook", "graph", with_agents, "--dot").output
    rows = [row for row in json.loads(run("grants", "--json").output) if row["by"] == "agent"]
    rows = [row for row in rows if row["runbook"] == with_agents]
    assert {"model", "shown to it", "run", "log", "metric", "read", "write", "budget"} <= {row["kind"] for row in rows}
    assert "tokens: 120,000" in run("grants").output

    commit(folder)
    path = folder / f"{with_agents}.yaml"
    path.write_text(path.read_text().replace("tokens: 120k, calls: 40, usd", "tokens: 240k, calls: 40, usd"))
    said = run("runbook", "diff", with_agents).output
    assert "~ diagnose, budget tokens: 120,000  ->  240,000   <- wider" in said
    assert run("grants", "--diff", "HEAD").exit_code == 1
    path.write_text(path.read_text().replace("tokens: 240k", "tokens: 60k"))
    narrower = run("grants", "--diff", "HEAD")
    assert narrower.exit_code == 0, narrower.output
    assert "tokens: 120,000" in narrower.output


def test_the_schema_completes_an_agents_step() -> None:
    agent = schema()["$defs"]["AgentEdge"]

    assert {"model", "prompt", "access", "budget", "timeout"} <= set(agent["required"])
    assert agent["properties"]["access"]["enum"] == ["none", "read"]
    tokens = schema()["$defs"]["BudgetEdge"]["properties"]["tokens"]["anyOf"]
    assert [one["type"] for one in tokens] == ["integer", "string"]
