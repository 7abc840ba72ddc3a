"""scripts/libvirtd.py: idempotent, and it stops nothing that it did not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins_vm import ROOT

pytestmark = pytest.mark.vm


def _script(command: str, state: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(ROOT / "scripts" / "libvirtd.py"), command, "--state", str(state)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_start_and_status_may_be_repeated_and_stop_leaves_what_others_started(vm_images: Path, tmp_path: Path) -> None:
    """A libvirtd runs already (the fixture saw to it): it is neither started twice nor ended."""
    started = _script("start", tmp_path)
    assert (started.returncode, started.stdout) == (0, "libvirtd is running already\n")
    stopped = _script("stop", tmp_path)
    assert (stopped.returncode, stopped.stdout) == (0, "nothing of ours to stop\n")
    status = _script("status", tmp_path)
    assert (status.returncode, status.stdout) == (0, "libvirtd answers\n")


def test_a_pid_that_is_somebody_elses_by_now_is_never_signalled(tmp_path: Path) -> None:
    """The mark holds the process's birth as well; here it is of another process: our own."""
    (tmp_path / "libvirtd.started").write_text(f"{os.getpid()} 1\n")
    assert _script("stop", tmp_path).stdout == "nothing of ours to stop\n"
