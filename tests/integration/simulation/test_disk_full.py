"""The demo's runbook, through every path: nothing unsafe, and what a person reads of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import cli
from engine.domain.states import FINAL, RunState
from engine.runbooks import Shelf
from engine.simulation import report
from engine.simulation.explore import Exploration, simulate
from tests.architecture.sources import REPOSITORY

pytestmark = pytest.mark.timeout(400)
RUNBOOKS = REPOSITORY / "runbooks"
INPUTS = {"env": "production", "mount": "/srv"}
HAPPENS = (
    "ok", "failed", "timed out", "VM lost", "killed by a signal", "never began", "crash before it worked",
    "crash after it worked", "held", "room failed", "room inconclusive", "room error", "crash while it measures",
    "approve", "reject", "nobody answers in time", "decide: retry", "decide: roll back", "decide: take over",
    "decide: abandon", "nobody decides for a day", "the deadline passes", "the source resolves",
    "the image is built anew", "the runbook on disk is edited", "abandoned while it runs", "grows old", "restart",
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> Exploration:
    """Every path of it."""
    return simulate(Shelf(RUNBOOKS).read("disk-full"), INPUTS)


def test_no_path_is_unsafe_and_all_were_looked_at(found: Exploration) -> None:
    assert found.violations == []
    assert found.left == 0


def test_everything_that_may_happen_happens(found: Exploration) -> None:
    names = {edge.name for edge in found.edges}

    assert [what for what in HAPPENS if not any(what in name for name in names)] == []


def test_every_end_and_every_leg_is_come_to(found: Exploration) -> None:
    assert {node.state for node in found.nodes} >= {*FINAL, RunState.HALTED, RunState.AWAITING_APPROVAL}
    legs = {node.leg for node in found.nodes}
    assert legs >= {"staging:rehearse", "staging:rollback-gate", "production:rollback-gate", "production:rolled-back"}


def test_each_path_is_a_row_and_leads_to_an_end_or_to_another_row(found: Exploration) -> None:
    rows = report.rows(found)
    numbers = {row.number for row in rows}
    completed = [row for row in rows if row.came_to == "completed"]

    assert len(rows) > 500
    assert numbers == set(range(1, len(rows) + 1))
    assert {row.goes_on_as for row in rows} - {None} <= numbers
    assert (report.AS_IT_SHOULD, "staging x3, production", "yes to production") in {
        (row.what, row.changed, row.asked) for row in completed
    }


def test_what_was_rolled_back_was_decided_by_a_person(found: Exploration) -> None:
    rolled_back = [row for row in report.rows(found) if row.came_to == "rolled back"]

    assert rolled_back
    assert all("decide: roll back" in row.what and "@oncall" in row.asked for row in rolled_back)


def test_the_graphs_name_the_places(found: Exploration) -> None:
    for graph in (report.as_text, report.as_dot, report.as_mermaid):
        drawn = "\n".join(graph(found))
        assert "halted at production-healthy" in drawn
        assert "decide: roll back" in drawn
    assert list(report.as_dot(found))[-1] == "}"


def test_the_command_says_that_it_was_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGNALBOX_RUNBOOKS", str(RUNBOOKS))
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    said = CliRunner().invoke(cli, ["simulate", "disk-full", "--most", "60"])
    assert said.exit_code == 1
    assert "places were not looked at" in said.output
    assert "goes on as" in said.output

    as_json = CliRunner().invoke(cli, ["simulate", "disk-full", "--most", "60", "--json"])
    assert json.loads(as_json.stdout)["unsafe"] == []

    wrong = CliRunner().invoke(cli, ["simulate", "disk-full", "--input", "mount=/etc"])
    assert "'mount=/etc' is no value of an input" in wrong.output
