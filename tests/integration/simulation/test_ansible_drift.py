"""The runbook `ansible-drift` through every path: nothing unsafe."""

from __future__ import annotations

import pytest

from engine.runbooks import Shelf
from engine.simulation.explore import simulate
from tests.architecture.sources import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_no_path_is_unsafe_and_all_were_looked_at() -> None:
    found = simulate(Shelf(REPOSITORY / "runbooks").read("ansible-drift"), {"env": "production"})

    assert found.violations == []
    assert found.left == 0
