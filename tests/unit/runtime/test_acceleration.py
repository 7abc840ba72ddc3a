"""KVM or emulation: whoever fell back to emulation is told, in the doctor and in the log of a worker that starts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine import doctor
from engine.runtime.host import Host
from engine.runtime.hypervisor import Accel, LibvirtHypervisor

NO_KVM = "libvirt offers no KVM, or there is no /dev/kvm"


@pytest.fixture(autouse=True)
def _no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "offers_kvm", lambda _: False)


@pytest.mark.parametrize(("accel", "warns"), [("auto", NO_KVM), ("tcg", "SIGNALBOX_ACCEL=tcg says so"), ("kvm", "")])
def test_a_worker_that_starts_says_so(accel: Accel, warns: str, tmp_path: Path) -> None:
    hypervisor = LibvirtHypervisor("test:///none", tmp_path, "o", accel)
    with capture_logs() as lines:
        hypervisor.keep_warm()
        for thread in threading.enumerate():
            if thread.name == "vm-pool-first":
                thread.join(10)

    assert [line["why"] for line in lines if line["log_level"] == "warning"] == ([warns] if warns else [])
    assert hypervisor.emulated() == warns


@pytest.mark.parametrize(
    ("asked", "emulated", "well"),
    [("auto", "", True), ("kvm", "", True), ("tcg", "asked", True), ("auto", "none", False)],
)
def test_the_doctor_finds_an_emulation_that_nobody_asked_for(asked: str, emulated: str, well: bool) -> None:
    found = doctor.acceleration(asked, emulated)
    assert found.well is well
    assert ("SIGNALBOX_ACCEL=kvm" in found.remedy) is not well
    assert ("no security boundary" in found.text) is bool(emulated)
