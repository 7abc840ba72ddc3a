"""Every harness note's recorded evidence is judged again and gives the verdict that it gave."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.harness import fixture as harness_fixture
from engine.harness.rule import numbers, section
from tests.regressions.replay import check_of, fields_of, problems, replayed
from tests.unit.harness.incidents import CAUSE, DF, UP

FOLDER = Path(__file__).parent
AGENTS = FOLDER.parents[1] / "agents.md"
FIXTURES = sorted(FOLDER.glob("hn-*.json"))


def load(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_there_is_something_to_replay() -> None:
    assert FIXTURES


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name)
def test_the_recorded_evidence_gives_the_recorded_verdict(path: Path) -> None:
    fixture = load(path)

    assert fixture["schema"] == harness_fixture.SCHEMA
    assert re.fullmatch(r"HN-\d+", fixture["id"])
    assert path.name == f"{fixture['id'].lower()}.json"
    assert problems(fixture) == []


def test_the_made_up_fixture_is_judged_again_sample_by_sample_in_every_kind() -> None:
    assert replayed(load(FOLDER / "hn-0.json")) == 7


def test_every_fixture_has_its_rule_and_every_rule_its_fixture() -> None:
    lines = AGENTS.read_text().split("\n")
    ruled = numbers([lines[at] for at in section(lines)])

    assert sorted(f"hn-{number}.json" for number in ruled) == sorted(path.name for path in FIXTURES)


def places() -> list[tuple[str, str, Any]]:
    """(check id, field of its first sample's evidence, value) that must each turn the verdict."""
    return [
        ("disk-is-full", "stdout", "Use%\n 12%\n"),
        ("disk-is-full", "code", 1),
        ("disk-is-full", "stdout", "df: /srv/checkout: No such file or directory\n"),
        ("cause-is-known", "out", {"cause": "unknown", "confidence": 0.95}),
        ("answers", "body", '{"status": "ok"}'),
        ("errors-stopped", "series", [{"metric": {}, "value": [1772360400, "0"]}]),
        ("same-content", "staging", "sha256:" + "9" * 64),
    ]


@pytest.mark.parametrize(("check_id", "field", "value"), places())
def test_the_replay_notices_evidence_that_does_not_give_the_verdict(check_id: str, field: str, value: Any) -> None:
    """Without this, a replay that judges nothing would look just as green."""
    fixture = copy.deepcopy(load(FOLDER / "hn-0.json"))
    (check,) = [check for verdict in fixture["verdicts"] for check in verdict["checks"] if check["id"] == check_id]
    assert check["samples"][0]["seen"][field] != value
    check["samples"][0]["seen"][field] = value

    assert any(problem.startswith(f"{check_id}, sample 1: was") for problem in problems(fixture))


def test_the_replay_notices_a_condition_that_was_loosened() -> None:
    fixture = copy.deepcopy(load(FOLDER / "hn-0.json"))
    fixture["verdicts"][0]["checks"][0]["check"]["expect"] = "true"

    assert "disk-is-full: the definition is not the one that was measured" in problems(fixture)


def test_the_replay_notices_a_gate_that_held_without_an_independent_check() -> None:
    fixture = copy.deepcopy(load(FOLDER / "hn-0.json"))
    for check in fixture["verdicts"][0]["checks"]:
        check["independent"] = False

    assert "diagnosis-gate: was held, is error" in problems(fixture)


@pytest.mark.parametrize("check", [DF, CAUSE, UP], ids=lambda check: str(check.type))
def test_a_check_survives_its_way_through_a_fixture(check: Any) -> None:
    assert check_of(fields_of(check)) == check
