"""Terraform for tests: the program of this machine, our own provider, and a guest image with both (`terraform`).

The provider's Python packages are installed by `scripts/setup.sh test` (hash-locked in scripts/terraform.lock). The
image is made as an operator makes one: a root of their own, brought in by `signalbox image import`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.runtime import image, inspection, own_root

ROOT = Path(__file__).parents[2]
PROVIDER = ROOT / "tests" / "services" / "volumes" / "terraform-provider-volumes"
PACKAGES = ROOT / ".signalbox" / "terraform"
NAME = "terraform"
MIRROR = Path("example.test/signalbox/volumes/1.0.0/linux_amd64/terraform-provider-volumes_v1.0.0")
""" Where Terraform looks for it below a folder of plugins. """
IN_THE_IMAGE = Path("usr/share/terraform/plugins")
MADE_OF = "made-of"
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
NEEDED = ("libstdc++.so.6", "libgcc_s.so.1")
""" What gRPC needs of Debian and the image `step` has not. """


def program() -> Path:
    """The terraform of this machine; fails the test without one."""
    found = shutil.which("terraform")
    if found is None:
        pytest.fail("there is no terraform (1.4 or newer) on the PATH: no package of Debian or PyPI has it, bring it")
    return Path(found).resolve()


def packages() -> Path:
    """The folder of the provider's Python packages; fails the test without them."""
    if not (PACKAGES / "tf").is_dir():
        pytest.fail("the Python package tf is not installed: run scripts/setup.sh test")
    return PACKAGES


def lay_out(plugins: Path) -> None:
    """Put the provider into a folder of plugins."""
    place = plugins / MIRROR
    place.parent.mkdir(parents=True)
    shutil.copyfile(PROVIDER, place)
    place.chmod(0o755)


def build(images: Path) -> None:
    """The guest image `terraform`, anew when `step`, terraform or the provider is another one than when it was made."""
    made_of = _made_of(images)
    note = images / NAME / MADE_OF
    if note.is_file() and note.read_text() == made_of:
        return
    with image.scratch() as work:
        root = work / "root"
        base = images / "step" / "rootfs.erofs"
        subprocess.run(["fsck.erofs", f"--extract={root}", str(base)], check=True, capture_output=True, timeout=300)
        lay_out(root / IN_THE_IMAGE)
        shutil.copy(program(), root / "usr/local/bin/terraform")
        shutil.copytree(packages(), root / "usr/lib/python3/dist-packages", dirs_exist_ok=True)
        for name in NEEDED:
            shutil.copy(LIBRARIES / name, root / LIBRARIES.relative_to("/") / name)
        own_root.bring(NAME, root, images, examine=inspection.inspect, progress=print)
    note.write_text(made_of)


def _made_of(images: Path) -> str:
    told = hashlib.sha256(PROVIDER.read_bytes())
    told.update(image.image_digest(images, "step").encode())
    for file in (program(), Path(__file__), ROOT / "scripts" / "terraform.lock"):
        told.update(file.read_bytes())
    return told.hexdigest()


def lock_of(folder: Path, tmp: Path) -> bytes:
    """The lock file of the configuration in `folder`, by terraform itself."""
    plugins, work = tmp / "plugins", tmp / "lock"
    lay_out(plugins)
    shutil.copytree(folder, work)
    command = [str(program()), f"-chdir={work}", "providers", "lock", f"-fs-mirror={plugins}", "-platform=linux_amd64"]
    env = {"PATH": os.defpath, "HOME": str(tmp), "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        pytest.fail(f"no lock file: {done.stderr[-600:]}")
    return (work / ".terraform.lock.hcl").read_bytes()
