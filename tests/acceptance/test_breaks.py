"""Everything that may go wrong in the demo's world ends as it should: `make demo AUTO=1 BREAK=...`, once each."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import plays
from demo.stage import Stage
from demo.world.faults import Fault
from tests.acceptance import telling

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault.STAGING,
        Fault.PRODUCTION,
        pytest.param(Fault.DIAGNOSIS, marks=pytest.mark.slow),
        pytest.param(Fault.NODATA, marks=pytest.mark.slow),
        pytest.param(Fault.TAMPER, marks=pytest.mark.slow),
    ],
)
def test_it_ends_as_it_should_and_leaves_nothing_behind(fault: Fault, vm_images: Path) -> None:
    """What each must end in is said by its part in demo/plays.py, which raises otherwise."""
    left: list[str] = []

    def look_after(stage: Stage) -> None:
        left.extend(stage.left_behind())

    with telling.stage(fault, after=look_after) as stage:
        plays.play(stage)

    assert left == []


def test_every_fault_has_a_part() -> None:
    assert set(plays.PLAYS) == set(Fault)
