"""qemu:///session as an ordinary user, also where the suite runs as root: the same tests, by that user.

As root, qemu:///session is the daemon of the system; so they run in a pytest of their own, as `signalbox-test`, with a
libvirtd of its own. See tests/services/plain_user.py.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime import manifest
from tests.plugins_vm import ROOT
from tests.services.plain_user import PlainUser, plain_user

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

HERE = "tests/integration/runtime"
AFTER_KILL_9 = "test_after_kill_9_of_the_worker_a_reading_vm_dies_a_changing_one_lives_until_the_sweep"
TESTS = (
    f"{HERE}/test_one_command_in_one_vm.py::test_output_input_environment_and_exit_code_cross",
    f"{HERE}/test_one_command_in_one_vm.py::test_the_vm_is_gone_when_run_returns",
    f"{HERE}/test_egress.py",
    f"{HERE}/test_confinement.py::test_qemu_is_held_and_the_vm_has_nothing_that_it_does_not_need",
    f"{HERE}/test_crashes_leave_no_vm.py::{AFTER_KILL_9}",
    f"{HERE}/test_sweep.py::test_only_what_nobody_works_with_is_swept",
    f"{HERE}/test_sweep.py::test_old_logs_of_libvirt_go_with_the_sweep",
    f"{HERE}/test_pool.py::test_a_task_takes_a_vm_that_waited_and_no_second_task_gets_it",
    f"{HERE}/test_pool.py::test_two_clones_of_one_saved_vm_differ_and_their_clocks_are_right",
)


@pytest.fixture
def user(vm_images: Path) -> Iterator[PlainUser]:
    """It may read the images, not write them."""
    with plain_user(vm_images) as made:
        yield made


def test_vms_work_for_an_ordinary_user(user: PlainUser, vm_images: Path) -> None:
    """One command in one VM, egress, confinement, sweep after a kill, pool, clones. None of it is skipped."""
    words = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--rootdir={ROOT}", f"--basetemp={user.home}/t")
    nodes = [str(ROOT / node) for node in TESTS]
    done = user.run(sys.executable, *words, *nodes, timeout_s=850, SIGNALBOX_IMAGES=str(vm_images))

    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"^\d+ passed in ", done.stdout, re.MULTILINE), done.stdout[-2000:]
    assert [command for command in user.processes().values() if "qemu-system" in command] == []


def test_the_doctor_says_that_the_sandbox_is_off_and_that_qemu_could_change_its_images(
    user: PlainUser, vm_images: Path
) -> None:
    """Read off a real VM: its libvirt was told to run QEMU without a sandbox."""
    settings = user.run("mkdir", "-p", f"{user.home}/.config/libvirt", timeout_s=60)
    assert settings.returncode == 0, settings.stdout
    (user.home / ".config/libvirt/qemu.conf").write_text("seccomp_sandbox = 0\n")
    copied = user.run("cp", "-rT", str(vm_images), f"{user.home}/images", timeout_s=60)
    assert copied.returncode == 0, copied.stdout

    said = user.run(
        sys.executable, "-m", "bot.main", "doctor",
        timeout_s=300, SIGNALBOX_IMAGES=f"{user.home}/images", SIGNALBOX_ACCEL="tcg",
    ).stdout  # fmt: skip

    assert re.search(r"FAIL qemu-sandbox +QEMU runs without its seccomp sandbox", said), said
    assert "seccomp_sandbox = 1" in said
    assert re.search(r"FAIL image-files +QEMU's user .* can change .*, and so what the next VM boots", said), said
    assert re.search(r"ok +vm-usb", said), said
    assert re.search(r"ok +acceleration", said), said


def test_an_image_that_only_another_user_may_write_is_not_built_anew_and_says_why(
    user: PlainUser, vm_images: Path
) -> None:
    environ = {"SIGNALBOX_IMAGES": str(vm_images)}
    there = user.run(sys.executable, "-m", "bot.main", "image", "build", timeout_s=60, **environ)
    forced = user.run(sys.executable, "-m", "bot.main", "image", "build", "--force", timeout_s=60, **environ)

    assert "up to date" in there.stdout
    if (vm_images.stat().st_uid, vm_images.stat().st_mode & 0o002) != (user.uid, 0):
        assert forced.returncode == 1
        assert "cannot be written: Permission denied" in forced.stdout
        assert "SIGNALBOX_IMAGES" in forced.stdout


@pytest.mark.slow
def test_an_ordinary_user_builds_the_image_that_root_builds(user: PlainUser, vm_images: Path) -> None:
    """In a user namespace; byte for byte, where the packages are of the same versions."""
    images = user.home / "images"
    built = user.run(sys.executable, "-m", "bot.main", "image", "build", timeout_s=600, SIGNALBOX_IMAGES=str(images))

    assert built.returncode == 0, built.stdout[-3000:]
    mine, roots = manifest.read(images / "step"), manifest.read(vm_images / "step")
    assert mine.packages
    if mine.packages == roots.packages:
        assert mine.parts == roots.parts
