"""Situations of an agent's step are read strictly: one that no run could be in tells nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.agents.recorded import NOT_RECORDED, Recorded
from engine.agents.situations import Situation, agent_step, situations
from engine.domain.agent import LogSource, Where
from engine.domain.errors import BadInput
from engine.domain.runbook import Snapshot
from engine.runbooks.shelf import Shelf
from tests.doubles.situations import STUCK, write_runbook


def _snapshot(folder: Path, text: str = STUCK) -> Snapshot:
    write_runbook(folder, {"stuck": text})
    return Shelf(folder).read("example")


@pytest.fixture(name="situation")
def a_situation(tmp_path: Path) -> Situation:
    (situation,) = situations(_snapshot(tmp_path), "diagnose")
    return situation


def test_a_situation(situation: Situation) -> None:
    """What its file says, by its name."""
    assert (situation.name, situation.title) == ("stuck", "the queue of web does not move")
    assert situation.inputs == {"unit": "web"}
    assert situation.commands[0].on is Where.TARGET
    assert situation.commands[0].argv == ("systemctl", "status", "web")
    assert situation.right == 'out.cause == "stuck"'


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("situation/v1", "situation/v2", "schema: Input should be 'situation/v1'"),
        ("title:", "titel:", "title: Field required"),
        ("right: ", "rights: ", "right: Field required"),
        ("unit: web", "unit: '../web'", "input unit is out of its bounds"),
        ("unit: web", "", "input unit has no value"),
        ("unit: web", "unit: web, host: x", "input host is unknown; known: unit"),
        ("claims: {}", "claims: {looked: {}}", "claims: there is no step looked"),
        ("logs: {web:", "logs: {db:", "logs: the step has none of the name db"),
        ("systemctl, status, web", "systemctl, stop, web", "commands: the step may never run this"),
        ("code: 3", "code: 300", "commands.0.code: Input should be less than or equal to 255"),
        ("schema:", "schema: [", "not YAML"),
    ],
)
def test_a_situation_with_a_mistake(tmp_path: Path, old: str, new: str, told: str) -> None:
    """Is not read; its file is named."""
    assert old in STUCK
    snapshot = _snapshot(tmp_path, STUCK.replace(old, new))

    with pytest.raises(BadInput) as refused:
        situations(snapshot, "diagnose")

    assert "example/evals/diagnose/stuck.yaml: " in str(refused.value)
    assert told in str(refused.value)


def test_no_situation_and_no_such_step(tmp_path: Path) -> None:
    """What is there instead, or where to put it."""
    snapshot = _snapshot(tmp_path)

    with pytest.raises(BadInput, match="no situation in example/evals/fix/"):
        situations(snapshot, "fix")
    with pytest.raises(BadInput, match="no agent's step 'staging'") as refused:
        agent_step(snapshot.runbook, "staging")
    assert refused.value.remedy == "there is diagnose, fix"


# -- what the tools find ----------------------------------------------------------------------------------------------


@pytest.fixture(name="recorded")
def a_recorded(situation: Situation) -> Recorded:
    return Recorded(situation, (LogSource(name="web", argv=("tail", "-n", "200", "/srv/web/web.log")),))


def test_a_recorded_command(recorded: Recorded) -> None:
    """By ssh, as the toolbox asks for it."""
    answer = recorded.run(("ssh", "target", "--", "systemctl status web"), 1, 100)

    assert (answer.code, answer.stdout) == (3, "web.service: deactivating\n")
    assert recorded.unrecorded == []


def test_the_same_words_elsewhere_are_another_command(recorded: Recorded) -> None:
    """In the VM there is no web. It is counted."""
    answer = recorded.run(("systemctl", "status", "web"), 1, 100)

    assert (answer.code, answer.reason) == (None, NOT_RECORDED)
    assert recorded.unrecorded == ["vm: systemctl status web"]


def test_a_long_answer_is_cut(recorded: Recorded) -> None:
    """As the VM's would be."""
    answer = recorded.run(("ssh", "target", "--", "systemctl status web"), 1, 5)

    assert (answer.stdout, answer.truncated) == ("web.s", True)


def test_logs_metrics_and_files(recorded: Recorded) -> None:
    """What is recorded, what was written, and nothing else."""
    log = recorded.run(("ssh", "target", "--", "tail -n 200 /srv/web/web.log"), 1, 100)
    recorded.write("/step/out/fix.sh", b"true")

    assert log.stdout == "queue: 40 waiting\nqueue: 40 waiting\n"
    assert recorded.metrics("web_queue", ("web_*",)) == [40]
    assert recorded.read("/step/claims.json", 100) == b"{}"
    assert recorded.read("/step/out/fix.sh", 100) == b"true"
    assert recorded.out == {"fix.sh": b"true"}
    with pytest.raises(BadInput, match=NOT_RECORDED):
        recorded.metrics("web_memory", ("web_*",))
    with pytest.raises(BadInput, match=NOT_RECORDED):
        recorded.read("/step/inputs.json", 100)
    with pytest.raises(BadInput, match="longer than 1 bytes"):
        recorded.read("/step/claims.json", 1)
    assert recorded.unrecorded == ["metrics web_memory", "read /step/inputs.json"]
