"""What the doctor says of `cpu_percent` where libvirt cannot hold a VM to it: a fault only if a runbook asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import doctor
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.settings import Settings
from tests.unit.runbooks.good import raw, reads, step


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("holds", [False, True])
def test_a_limit_without_effect_is_found_where_a_runbook_names_it(tmp_path: Path, *, holds: bool, asked: bool) -> None:
    values = raw()
    if asked:
        step(values, "look")["limits"] = {"cpu_percent": 50}
    assert reads(tmp_path, values, None) == ""
    hypervisor = LibvirtHypervisor("test:///none", tmp_path, "o", "tcg", memory_mb=1000)
    hypervisor.holds_cpu = holds

    finding = doctor._processors(hypervisor, Settings(runbooks=tmp_path))  # type: ignore[call-arg]  # the rest is usual

    assert finding.well is (holds or not asked)
    assert ("no effect" in finding.text) is not holds
    assert ("named by good" in finding.text) is asked
    assert bool(finding.remedy) is (asked and not holds)
