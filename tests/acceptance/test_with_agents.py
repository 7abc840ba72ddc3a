"""`make demo AUTO=1 AGENT=replay`: agents diagnose and write the fix; all else is as ever, and the channel says what
they did."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from demo import plays
from demo.stage import Stage
from demo.world.faults import Fault
from tests.acceptance import telling

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]


def printed(stage: Stage, step: str) -> str:
    """The transcript of the one attempt of a step."""
    [found] = [each.stdout for each in plays.run(stage).attempts if each.leg == step]
    return found


def test_agents_diagnose_and_write_the_fix_and_the_channel_shows_what_they_did(vm_images: Path) -> None:
    left: list[str] = []
    with telling.stage(agents=True, after=lambda stage: left.extend(stage.left_behind())) as stage:
        plays.play(stage)
        looked, wrote = printed(stage, "diagnose"), printed(stage, "fix")
        plays.said(stage, "run on target: df -P -B1 /srv")
        plays.said(stage, "It claims")
        calls = (stage.folder / "signalbox.log").read_text()

    # the tools really ran: on the target, in the VM, and against Prometheus
    assert re.search(r"/dev/\w+ +\d+ +\d+ +\d+ +[89]\d% /srv", looked), looked
    assert '"checkout_disk_used_ratio"' in looked
    assert "wrote " in wrote
    assert "exit code 0" in wrote
    # over both wire formats, by the proxy
    assert len(re.findall(r"event='model call'.* model='careful' status=200", calls)) == 3
    assert len(re.findall(r"event='model call'.* model='writer' status=200", calls)) == 2
    assert left == []


@pytest.mark.slow
def test_a_cause_that_is_unknown_comes_with_what_was_looked_at_and_what_one_could_try(vm_images: Path) -> None:
    with telling.stage(Fault.DIAGNOSIS, agents=True) as stage:
        plays.play(stage)  # which waits for it to be said
        assert '"cause": "unknown"' in printed(stage, "diagnose")
