"""The folder of images as a whole: what lies there, who uses it, what nobody needs. For `image list` and `image gc`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine.domain import image_names
from engine.domain.errors import BadInput, Unavailable
from engine.runtime import image, manifest
from engine.runtime.manifest import Manifest

LOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
WRITE_LOCK, NO_LOCK = fcntl.F_WRLCK, fcntl.F_UNLCK
F_OFD_GETLK = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An image that lies there. `manifest`: None, with `problem` saying why, when it cannot be read. Size in bytes."""

    name: str
    digest: str
    size: int
    made_at: datetime
    manifest: Manifest | None
    problem: str = ""


def names(images: Path) -> tuple[str, ...]:
    """Every image there, whole or broken."""
    if not images.is_dir():
        return ()
    return tuple(
        sorted(path.name for path in images.iterdir() if path.is_dir() and image_names.NAME.fullmatch(path.name))
    )


def listed(images: Path) -> Iterator[Listed]:
    """Every image there; hashes what would be booted, so it takes a moment."""
    for name in names(images):
        folder = images / name
        known, digest, problem = None, "", ""
        try:
            digest = image.image_digest(images, name)
            known = manifest.read(folder)
        except BadInput as error:
            problem = str(error)
        yield Listed(
            name=name,
            digest=digest,
            size=sum(file.stat().st_size for file in folder.iterdir()),
            made_at=datetime.fromtimestamp(folder.stat().st_mtime, UTC),
            manifest=known,
            problem=problem,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """Something that may go. `why`: for people."""

    path: Path
    why: str


def waste(images: Path, needed: Collection[str]) -> Iterator[Waste]:
    """What nobody needs: images that are not `needed`, and what a build that was killed left behind.

    Never `step`, which every gate's probe boots, and never what a running VM has open.
    """
    for name in names(images):
        if name not in needed and name != image_names.BASE and not in_use(images / name):
            yield Waste(path=images / name, why="no runbook, no run under way and no VM uses it")
    for folder in sorted(images.glob(".*-*")) if images.is_dir() else ():
        if folder.is_dir() and not any(in_use(each) for each in folder.iterdir() if each.is_dir()):
            yield Waste(path=folder, why="left by a build that did not end")
    for folder in sorted(image.SCRATCH.glob(f"{image.SCRATCH_PREFIX}*")):
        if folder.is_dir() and folder.stat(follow_symlinks=False).st_uid == os.geteuid() and not _held(folder):
            yield Waste(path=folder, why="left by a build that did not end")


def remove(found: Waste) -> None:
    """Raises Unavailable when it cannot be removed."""
    try:
        shutil.rmtree(found.path)
    except PermissionError:
        # a plain user's build makes files of other ids in a user namespace, and only there they can be removed
        subprocess.run(
            ["mmdebstrap", "--unshare-helper", "rm", "-rf", "--", str(found.path)],
            capture_output=True,
            timeout=600,
            check=False,
        )
        if found.path.exists():
            raise Unavailable(f"{found.path} cannot be removed", "remove it by hand, as whoever built it") from None
    except FileNotFoundError:
        pass


def in_use(folder: Path) -> bool:
    """Whether a VM may have it open: QEMU holds a lock on each disk that it opens, and was started with these paths."""
    if any(_locked(folder / part) for part in image.PARTS):
        return True
    inside = os.fsencode(f"{folder.resolve()}/")
    return any(inside in command for command in _commands())


def _locked(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            answer = fcntl.fcntl(opened, F_OFD_GETLK, LOCK.pack(WRITE_LOCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return file.exists()  # what cannot be asked counts as used
    return bool(LOCK.unpack(answer)[0] != NO_LOCK)


def _commands() -> Iterator[bytes]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile
                yield (folder / "cmdline").read_bytes()


def _held(folder: Path) -> bool:
    """Whether the build that made this scratch folder still lives."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
