"""What the doctor says of models: keys, what runbooks ask of them, and what keeps the loop apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.agents import checkup
from engine.agents.checkup import Finding, Wanted
from engine.agents.models import Models, load_models
from engine.domain.agent import AgentRule, Budget

ENTRY = "careful: {{api: openai, model: m, key_file: key{more}}}\n"


def models(tmp_path: Path, more: str = "", *, mode: int = 0o600) -> Models:
    key = tmp_path / "key"
    key.write_text("sk-0123456789")
    key.chmod(mode)
    path = tmp_path / "models.yaml"
    path.write_text(ENTRY.format(more=more))
    return load_models(path)


def wanted(model: str = "careful", microdollars: int | None = None) -> Wanted:
    budget = Budget(requests=1, tokens=1000, calls=1, microdollars=microdollars)
    return Wanted(runbook="disk-full", step="diagnose", rule=AgentRule(model=model, budget=budget))


def test_a_cli_needs_a_model_of_its_format(tmp_path: Path) -> None:
    rule = AgentRule(model="careful", cli="codex", budget=Budget(requests=2, tokens=1000, calls=0))
    step = Wanted(runbook="disk-full", step="fix", rule=rule)

    [found] = [one for one in checkup.examine(models(tmp_path), [step]) if not one.well and one.part == "models"]

    assert "codex, which speaks openai-responses, and model careful openai" in found.text


def sick(found: list[Finding]) -> list[Finding]:
    assert all(bool(finding.remedy) is not finding.well for finding in found)
    return [finding for finding in found if not finding.well]


def test_without_models_and_agent_steps_all_is_well() -> None:
    [found] = checkup.examine(Models(Path("models.yaml"), {}), [])
    assert found.well


def test_a_model_that_steps_can_use_is_well_and_is_not_asked(tmp_path: Path) -> None:
    found = list(checkup.examine(models(tmp_path, ", price: {input: 1, output: 2}"), [wanted(microdollars=10)]))

    assert sick(found) == []
    assert "signalbox model check" in " ".join(finding.text for finding in found)
    assert found[-1].part == "bubblewrap"


def test_what_is_not_well_is_found_with_its_remedy(tmp_path: Path) -> None:
    known = models(tmp_path)
    [unknown] = sick(list(checkup.examine(known, [wanted("quick")])))
    assert ("asks model quick" in unknown.text, str(known.path) in unknown.remedy) == (True, True)

    [free] = sick(list(checkup.examine(known, [wanted(microdollars=10)])))
    assert ("has no price" in free.text, "price" in free.remedy) == (True, True)

    [shared] = sick(list(checkup.examine(models(tmp_path, mode=0o644), [])))
    assert "chmod 600" in shared.remedy

    (tmp_path / "key").unlink()
    [missing] = sick(list(checkup.examine(known, [])))
    assert "cannot read" in missing.text


def test_a_missing_and_a_broken_bubblewrap_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [missing] = sick(list(checkup.examine(models(tmp_path), [wanted()])))
    assert missing.remedy == "apt-get install bubblewrap"

    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    [broken] = sick(list(checkup.examine(models(tmp_path), [wanted()])))
    assert "No permissions" in broken.text
