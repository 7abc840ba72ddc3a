"""`kill -9` in the middle of an agent's call: what a process of its own left behind is all that another one has."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from engine.domain.agent import CallState
from engine.domain.states import AttemptState, RunState
from tests.doubles.played_agents import UNKNOWN, FakeAgents
from tests.integration.engine.an_agent import calls, diagnoses, talks
from tests.integration.engine.conftest import Box

ROOT = Path(__file__).parents[3]


def test_another_process_goes_on_with_the_budget_and_repeats_no_call(
    box: Box, agents: FakeAgents, url: str, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    died = subprocess.run(
        [sys.executable, "-m", "tests.integration.engine.dies_in_a_call", url, str(told)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert told.read_text().splitlines() == ["df /srv", "systemctl status x"]
    assert (talks(box)[0].requests, calls(box)["status"].state) == (2, CallState.BEGUN)
    box.clock.pass_time(minutes=15)  # it came up later than this one
    box.restart()
    box.go()

    assert box.run().waits_for == "approval of production"
    assert diagnoses(box) == [AttemptState.LOST, AttemptState.FINISHED]
    assert box.hypervisor.guest.heard == [("du",)]
    assert (len(talks(box)), talks(box)[0].requests) == (1, 3)
    assert calls(box)["status"].answer == UNKNOWN
    assert box.run().state is RunState.AWAITING_APPROVAL
