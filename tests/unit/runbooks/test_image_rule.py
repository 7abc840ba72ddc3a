"""L025, the one rule whose answer depends on the machine: which images lie there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.runbooks.good import problems, raw, reads, step


def test_an_image_that_can_neither_be_built_nor_lies_there_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """L025. On a machine that has images; a run keeps its runbook whatever becomes of them."""
    values = raw()
    step(values, "look")["image"] = "step-ansibel"

    refusal = reads(tmp_path, values, ("step", "tools"))
    assert "there is no image step-ansibel - use one of step, step-ansible, tools, or bring it" in refusal
    assert refusal.endswith("[L025]")
    assert reads(tmp_path, values, None) == ""
    assert problems(values) == []


@pytest.mark.parametrize("name", ["step", "step-ansible", "tools"])
def test_an_image_that_can_be_built_or_was_imported_is_allowed(tmp_path: Path, name: str) -> None:
    """L025. What can be built need not be there yet: doctor says so."""
    values = raw()
    step(values, "look")["image"] = name

    assert reads(tmp_path, values, ("tools",)) == ""
