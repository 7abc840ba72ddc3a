"""Images with real builds and real VMs: built twice they are the same bytes, looked at they boot, open they stay."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from engine.domain.ports import VmTask
from engine.runtime import erofs, gallery, image, inspection, manifest, own_root
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.plugins_vm import ROOT, URI, Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

BUILD = """
import sys
from pathlib import Path
from engine.runtime import image
image.build(image.STEP, Path(sys.argv[1]), progress=print)
"""
UPSIDE_DOWN = {"TZ": "Asia/Tokyo", "LANG": "C", "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1", "HOME": "/nowhere"}


def test_the_image_is_fit_for_steps(vm_images: Path, hypervisor: LibvirtHypervisor) -> None:
    """All that verify looks at, with a real trial boot."""
    findings = [*inspection.inspect(vm_images / "step"), inspection.boot(hypervisor, "step")]

    assert [finding for finding in findings if not finding.well] == []
    assert [finding.part for finding in findings] == ["manifest", "root", "kernel", "agent", "boot"]
    packages = {package.name: package for package in manifest.read(vm_images / "step").packages}
    assert set(image.PACKAGES) <= packages.keys()
    assert packages["busybox-static"].within == "kernel"


def test_nothing_of_the_builder_s_machine_is_in_the_root(vm_images: Path) -> None:
    """Its name, its resolver, its logs; devices, which a plain user could not make."""
    with erofs.opened(vm_images / "step" / "rootfs.erofs") as tree:
        assert tree.content("etc/hostname", 100) == b"vm\n"
        assert tree.content("etc/resolv.conf", 100) == b""
        below = {
            folder: [path for path in tree.nodes if path.startswith(f"{folder}/")] for folder in ("dev", "var/log")
        }
        assert below["dev"] == []
        assert [path for path in below["var/log"] if "." in path] == []
        assert "etc/shadow-" not in tree.nodes


def test_an_image_that_a_vm_runs_is_kept(vm_images: Path, hypervisor: LibvirtHypervisor) -> None:
    """By what QEMU itself does, as this machine's libvirt starts it."""
    up = threading.Event()
    name = f"open-{uuid.uuid4()}"
    task = VmTask(id=name, run_id="r", image="step", argv=("sh", "-c", "echo up; exec sleep 600"), timeout_s=600)
    thread = threading.Thread(target=lambda: hypervisor.run(task, Plain(), lambda _: up.set()))
    thread.start()
    try:
        assert up.wait(300)
        assert gallery.in_use(vm_images / "step")
    finally:
        hypervisor.destroy(name)
        thread.join(60)


def test_a_root_of_one_s_own_boots(tmp_path: Path, vm_images: Path, hypervisor: LibvirtHypervisor) -> None:
    """What `step` holds, brought along as a folder, is an image by another name, and is not left behind."""
    packed = vm_images / "step" / "rootfs.erofs"
    name = f"own-{uuid.uuid4().hex[:8]}"
    subprocess.run(["fsck.erofs", f"--extract={tmp_path / 'root'}", packed], check=True, capture_output=True)

    def examine(folder: Path) -> list[inspection.Finding]:
        trial = LibvirtHypervisor(URI, folder.parent, f"test-{os.getpid()}", "tcg")
        try:
            return [*inspection.inspect(folder), inspection.boot(trial, name)]
        finally:
            trial.close()

    folder = own_root.bring(name, tmp_path / "root", vm_images, examine=examine, progress=print)
    try:
        assert len(manifest.read(folder).packages) > 100
    finally:
        gallery.remove(gallery.Waste(path=folder, why="a test made it"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_builds_from_the_same_packages_are_the_same_bytes(tmp_path: Path) -> None:
    """In other folders, by builders with another umask, time zone, language, hash seed and (as root) host name."""
    tmp_path.chmod(0o755)
    renamed = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && umask 077 && exec "$@"', "sh"]
    odd = renamed if os.geteuid() == 0 else ["sh", "-c", 'umask 077; exec "$@"', "sh"]
    for folder, before, environ in (("one", [], {}), ("two", odd, UPSIDE_DOWN)):
        command = [*before, sys.executable, "-c", BUILD, str(tmp_path / folder)]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environ}, check=True)

    one, two = (tmp_path / folder / "step" for folder in ("one", "two"))
    if manifest.read(one).packages != manifest.read(two).packages:
        pytest.fail("the apt sources moved between the two builds: run this again")
    assert (one / "SHA256SUMS").read_text() == (two / "SHA256SUMS").read_text()
    assert (one / manifest.FILE).read_bytes() == (two / manifest.FILE).read_bytes()
