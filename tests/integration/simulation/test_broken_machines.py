"""A broken machine is found by simulating a runbook on it; a whole one is clean."""

from __future__ import annotations

import pytest

from engine.simulation.explore import simulate
from tests.integration.simulation.machines import BROKEN, Break
from tests.integration.simulation.short import INPUTS, short

pytestmark = pytest.mark.timeout(300)


def test_the_machine_as_it_is_is_clean() -> None:
    found = simulate(short(), INPUTS)

    assert found.violations == []
    assert found.left == 0
    assert len(found.nodes) > 100


@pytest.mark.parametrize(("broken", "says"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_machine_is_found_with_the_path_to_it(
    broken: Break, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)

    found = simulate(short(), INPUTS, first_only=True)

    assert says in "\n".join(violation.what for violation in found.violations)
    assert all(violation.path for violation in found.violations[:1])
