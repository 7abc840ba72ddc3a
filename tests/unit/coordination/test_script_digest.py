"""What a script is on a digest: its bytes; of a playbook every file of its folder, and which of them it is; of an agent
its prompt and its context."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.coordination import orders
from engine.domain.agent import AgentRule, Budget
from engine.domain.runbook import Script, ScriptStep, Snapshot, Tool
from tests.unit.runtime.orders import STEP, order

PLAY = replace(STEP, tool=Tool.ANSIBLE, script=Script(file="play/site.yml"))
AGENT = replace(
    STEP,
    tool=Tool.AGENT,
    script=Script(file="play/look.md"),
    agent=AgentRule(
        model="careful", context=("play/host.md", "web.md"), budget=Budget(requests=2, tokens=1000, calls=1)
    ),
)
TOLD = {"play/look.md": b"1", "play/host.md": b"2", "web.md": b"3", "play/other.md": b"4", "fix.sh": b"5"}
FILES = {"play/site.yml": b"1", "play/undo.yml": b"2", "play/files/app.conf": b"3", "fix.sh": b"4", "player.yml": b"5"}


def digest(files: dict[str, bytes], step: ScriptStep = PLAY, script: Script | None = None) -> str:
    snapshot: Snapshot = replace(order(step).snapshot, files=files)
    return orders._script_digest(step, script or step.script, snapshot)


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("play/")])
def test_every_file_of_a_playbooks_folder_counts(path: str) -> None:
    assert digest(FILES) != digest({**FILES, path: FILES[path] + b"x"})
    assert digest(FILES) != digest({**FILES, "play/new": b""})


def test_the_rest_of_the_runbooks_folder_does_not() -> None:
    assert digest(FILES) == digest({**FILES, "fix.sh": b"x", "player.yml": b"x"})


def test_two_playbooks_of_one_folder_are_not_the_same() -> None:
    assert digest(FILES) != digest(FILES, script=Script(file="play/undo.yml"))


def test_a_script_is_its_own_bytes_only() -> None:
    step = replace(STEP, script=Script(file="play/site.yml"))
    assert digest(FILES, step) == digest({**FILES, "play/undo.yml": b"x"}, step)
    assert digest(FILES, step) != digest({**FILES, "play/site.yml": b"x"}, step)


@pytest.mark.parametrize("path", ["play/look.md", "play/host.md", "web.md"])
def test_an_agent_is_all_that_it_is_told(path: str) -> None:
    assert digest(TOLD, AGENT) != digest({**TOLD, path: TOLD[path] + b"x"}, AGENT)


def test_what_an_agent_is_not_told_is_no_part_of_it() -> None:
    assert digest(TOLD, AGENT) == digest({**TOLD, "play/other.md": b"x", "fix.sh": b"x", "play/new": b""}, AGENT)


def test_a_prompt_and_a_context_that_change_places_are_another_agent() -> None:
    swapped = Script(file="play/host.md")
    assert digest(TOLD, AGENT) != digest(TOLD, AGENT, swapped)
