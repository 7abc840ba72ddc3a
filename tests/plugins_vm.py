"""Fixtures for tests that boot real VMs: a running libvirtd, the `step` image, a hypervisor with a mark of its own.

Import them by name into a conftest.py. When something is missing the test fails with the command that installs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.stage import images_folder
from engine.domain.errors import SignalboxError
from engine.runtime import image
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.output import NoSecrets as Plain

__all__ = ["IMAGES", "ROOT", "URI", "Plain", "hypervisor", "vm_images"]

ROOT = Path(__file__).parents[1]
IMAGES = Path(os.environ.get("SIGNALBOX_IMAGES", images_folder()))
STATE = Path(os.environ.get("SIGNALBOX_LIBVIRT_STATE", ROOT / ".signalbox" / "test-libvirt"))
STARTED = "libvirtd started"
URI = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"


@pytest.fixture(scope="session")
def vm_images() -> Iterator[Path]:
    """The folder of guest images, with `step` in it; built once, about a minute. libvirtd runs as long as it is used.

    Several conftests import this, each for a fixture of its own: the one that started libvirtd ends it.
    """
    system = URI.endswith("system")
    started = system and STARTED in _libvirtd("start")
    try:
        image.build(image.STEP, IMAGES, progress=print)
        yield IMAGES
    except SignalboxError as error:
        pytest.fail(f"{error}\n{error.remedy}")
    finally:
        if started:
            _libvirtd("stop")


def _libvirtd(verb: str) -> str:
    """What scripts/libvirtd.py says about it; fails the test when it cannot."""
    command = [sys.executable, str(ROOT / "scripts" / "libvirtd.py"), verb, "--state", str(STATE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        pytest.fail(f"no libvirtd: {done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="session")
def hypervisor(vm_images: Path) -> Iterator[LibvirtHypervisor]:
    """A hypervisor whose VMs nobody else touches; whatever a test leaves is swept."""
    made = LibvirtHypervisor(URI, vm_images, f"test-{os.getpid()}")
    yield made
    left = made.sweep()
    made.close()
    assert not left, f"a test left VMs: {left}"
