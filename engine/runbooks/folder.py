"""Reads a runbook's files from disk, warily. Called by the shelf at every reading: what counts is what is there now."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.runbooks.positions import MAX_BYTES, Problem

MAX_FILES = 200
MAX_FOLDER_BYTES = 1 << 20

_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class Unreadable(Exception):
    """A file cannot be part of a runbook."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def text(path: Path) -> str:
    """The YAML text; raises Unreadable."""
    try:
        return _regular(path, MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(Problem(1, 1, f"not UTF-8 at byte {error.start}", "save the file as UTF-8")) from None


def files(folder: Path) -> dict[str, bytes]:
    """Every regular file of the folder by its path within, none when there is no folder. Raises Unreadable.

    What editors and interpreters leave behind (hidden files, `~`, __pycache__) is no part of a runbook.
    """
    found: dict[str, bytes] = {}
    left = MAX_FOLDER_BYTES
    for path in _paths(folder):
        name = path.relative_to(folder).as_posix()
        if not _PATH.fullmatch(name):
            mend = "use letters, digits, dots, hyphens and underscores"
            raise Unreadable(Problem(1, 1, f"{folder.name}/ has a file with the name {name!r}", mend))
        found[name] = _regular(path, left)
        left -= len(found[name])
        if len(found) > MAX_FILES:
            raise Unreadable(
                Problem(1, 1, f"{folder.name}/ has more than {MAX_FILES} files", "remove what no step uses")
            )
    return found


def _paths(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        raise Unreadable(Problem(1, 1, f"{folder.name}/ is a link", "put the files themselves there"))
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _ignored(name))
        for name in sorted(names) + [name for name in folders if (Path(here) / name).is_symlink()]:
            if not _ignored(name):
                yield Path(here) / name


def is_part(path: str) -> bool:
    """Whether a file of the folder, by its path within, is part of the runbook."""
    return _PATH.fullmatch(path) is not None and not any(_ignored(name) for name in path.split("/"))


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.endswith("~") or name == "__pycache__"


def _regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; O_NOFOLLOW and O_NONBLOCK, so that neither a link nor a pipe fools us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(Problem(1, 1, f"cannot read {path.name}: {error.strerror}", "make it a plain file")) from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable(Problem(1, 1, f"{path.name} is no regular file", "make it a plain file"))
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Unreadable(
            Problem(1, 1, f"{path.name} is too large", f"keep within {MAX_FOLDER_BYTES >> 20} MiB a runbook")
        )
    return data
