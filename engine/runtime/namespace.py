"""Whether a plain user can lay out a root: its files belong to ids that only a user namespace can give it."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from engine.domain.errors import Unavailable

IDS = (Path("/etc/subuid"), Path("/etc/subgid"))
OR_AS_ROOT = (
    "or build once as root, in a folder that this user can read: "
    "sudo env SIGNALBOX_IMAGES=/var/lib/signalbox/images signalbox image build"
)


def check(search: str, ids: tuple[Path, ...] = IDS) -> None:
    """Return when this user can; `search`: the PATH. Raises Unavailable with what is missing."""
    if os.geteuid() == 0:
        return
    if shutil.which("newuidmap", path=search) is None:
        raise Unavailable(
            "newuidmap is not installed, and a plain user builds in a user namespace",
            f"run: apt-get install uidmap; {OR_AS_ROOT}",
        )
    name = pwd.getpwuid(os.geteuid()).pw_name
    for file in ids:
        if not any(line.split(":")[0] in {name, str(os.geteuid())} for line in _lines(file)):
            raise Unavailable(
                f"{file} gives {name} no ids, and a plain user builds in a user namespace",
                f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}; {OR_AS_ROOT}",
            )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
