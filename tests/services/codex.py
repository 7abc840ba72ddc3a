"""The Codex CLI for tests: its package, and a guest image with it (`codex`), made as an operator makes one.

The package is the one that SIGNALBOX_CODEX names, or else npm fetches it once, into .signalbox/codex.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runtime import image, inspection, own_root

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".signalbox" / "codex"
SCRIPT = ROOT / "scripts" / "codex_root.py"
NAME = "codex"
PACKAGE = "@openai/codex@0.169.0-linux-x64"
TARBALL = "openai-codex-0.169.0-linux-x64.tgz"
VARIABLE = "SIGNALBOX_CODEX"
MADE_OF = "made-of"


def tarball() -> Path:
    """The package; fails the test with the command that gets it."""
    given = Path(os.environ.get(VARIABLE, CACHE / TARBALL))
    if not given.is_file() and VARIABLE not in os.environ and shutil.which("npm"):
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", PACKAGE], cwd=CACHE, capture_output=True, timeout=900, check=False)
    if not given.is_file():
        pytest.fail(f"no Codex CLI in {given}: get it by `npm pack {PACKAGE}`, and say where it is in {VARIABLE}")
    return given


def build(images: Path) -> None:
    """The guest image `codex`, anew when `step`, the package or the script is another one than when it was made."""
    package = tarball()
    made_of = _made_of(images, package)
    note = images / NAME / MADE_OF
    if note.is_file() and note.read_text() == made_of:
        return
    with image.scratch() as work:
        root = work / "root"
        command = [sys.executable, str(SCRIPT), str(package), str(images / "step" / "rootfs.erofs"), str(root)]
        subprocess.run(command, check=True, timeout=600)
        own_root.bring(NAME, root, images, examine=inspection.inspect, progress=print)
    note.write_text(made_of)


def _made_of(images: Path, package: Path) -> str:
    with package.open("rb") as file:
        told = hashlib.file_digest(file, "sha256")
    told.update(image.image_digest(images, "step").encode())
    told.update(SCRIPT.read_bytes())
    return told.hexdigest()
