"""Lays a root file system out in a scratch folder, from a tar archive or a folder that a stranger may have made.

Refused: a name that is absolute, has `..`, or leads through anything but a folder of the archive's own; a second file
of a name; a hard link to what is no file before it; what is too much. Left out: devices, pipes, sockets, other file
systems under a folder. Dropped: owners (all is root's), setuid and setgid. Links are copied and never followed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.domain.errors import BadInput, TooLarge

MAX_BYTES = 8 << 30
MAX_ENTRIES = 500_000
MAX_DEPTH = 64
MAX_NAME = 255
MAX_LINK = 4095
MAX_HEADER = 1 << 20
CHUNK = 1 << 16
LAST_TIME = 1 << 32
GZIP = b"\x1f\x8b"

Open = Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing of a root. `kind`: as in `stat.S_IFMT`, or 0 for a hard link to `link`."""

    name: str
    kind: int
    mode: int = 0o644
    time: int = 0
    size: int = 0
    link: str = ""
    open: Open = io.BytesIO


class Layout:
    """What lies in `base` so far. Only what this object put there is ever walked through."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.files: set[str] = set()
        self.left_out = 0
        self.newest = 0
        self._folders: dict[str, tuple[int, int]] = {"": (0o755, 0)}  # mode and time, set when all is there
        self._links: set[str] = set()
        self._bytes = 0

    def add(self, entry: Entry) -> None:
        """Raises BadInput, TooLarge for what is refused."""
        name = _plain(entry.name)
        if len(self._folders) + len(self.files) + len(self._links) + self.left_out > MAX_ENTRIES:
            raise TooLarge(f"more than {MAX_ENTRIES} files", "take out what steps do not need")
        time = entry.time if 0 <= entry.time < LAST_TIME else 0
        self.newest = max(self.newest, time)
        if entry.kind == stat.S_IFDIR:
            self._folder(name, entry.mode & 0o1777 | 0o700, time)
        elif entry.kind in {stat.S_IFREG, stat.S_IFLNK, 0}:
            self._file(name, entry, time)
        else:
            self.left_out += 1

    def finish(self) -> None:
        """Folders get their modes and times, the deepest first."""
        for name, (mode, time) in sorted(self._folders.items(), reverse=True):
            path = self.base / name
            path.chmod(mode)
            os.utime(path, (time, time))

    def _folder(self, name: str, mode: int, time: int) -> None:
        if name not in self._folders:
            self._room(name)
            (self.base / name).mkdir(0o700)
        self._folders[name] = mode, time

    def _room(self, name: str) -> None:
        """Nothing is called so yet, and all above it are folders of ours; those that are missing are made."""
        if name in self.files or name in self._links or name in self._folders:
            raise BadInput(f"{name!r} comes twice", "make the archive anew: one entry for each name")
        above = name.rpartition("/")[0]
        if above in self.files or above in self._links:
            raise BadInput(f"{name!r} leads through {above!r}, which is no folder", "make it by the real path")
        if above not in self._folders:
            self._folder(above, 0o755, 0)

    def _file(self, name: str, entry: Entry, time: int) -> None:
        if not name:
            raise BadInput("the root is no folder", "give a root file system")
        self._room(name)
        path = self.base / name
        if entry.kind == stat.S_IFLNK:
            if not 0 < len(os.fsencode(entry.link)) <= MAX_LINK or "\0" in entry.link:
                raise BadInput(f"{name!r} links to nowhere", "mend the link")
            path.symlink_to(entry.link)
            self._links.add(name)
        elif entry.kind == 0:
            if (other := _plain(entry.link)) not in self.files:
                raise BadInput(f"{name!r} is a hard link to {entry.link[:80]!r}, no file before it", "archive it anew")
            path.hardlink_to(self.base / other)
            self.files.add(name)
            return
        else:
            self._copy(path, entry)
            path.chmod(entry.mode & 0o777 | 0o400)
            self.files.add(name)
        os.utime(path, (time, time), follow_symlinks=False)

    def _copy(self, path: Path, entry: Entry) -> None:
        with entry.open() as source, path.open("xb") as out:
            while data := source.read(CHUNK):
                self._bytes += len(data)
                if self._bytes > MAX_BYTES:
                    raise TooLarge(f"more than {MAX_BYTES >> 30} GiB", "take out what steps do not need")
                out.write(data)


def _plain(name: str) -> str:
    """The name without `./`; raises BadInput for one that could lead out."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    wrong = name.startswith("/") or ".." in parts or "\0" in name or len(parts) > MAX_DEPTH
    if wrong or any(len(os.fsencode(part)) > MAX_NAME for part in parts):
        raise BadInput(f"{name[:80]!r} is no name within a root", "names are relative, without `..`, in folders")
    return "/".join(parts)


def lay_out(source: Path, base: Path) -> Layout:
    """Put the root that `source` (a tar, plain or gzip; or a folder) holds into `base`. Raises BadInput, TooLarge."""
    made = Layout(base)
    with contextlib.ExitStack() as stack:
        entries = _of_folder(source) if source.is_dir() else _of_tar(stack.enter_context(_plain_tar(source, base)))
        try:
            for entry in entries:
                made.add(entry)
        except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:
            # the last two are what tarfile raises for numbers and chains of headers that make no sense
            raise BadInput(f"{source} is no tar archive that can be read: {error}", "tar it, plain or gzip") from None
        except OSError as error:
            raise BadInput(
                f"{error.filename or source}: {error.strerror or error}", "mend it and import anew"
            ) from None
    made.finish()
    return made


def _of_folder(source: Path) -> Iterator[Entry]:
    device = source.stat().st_dev
    todo = [""]
    while todo:
        here = todo.pop()
        for found in sorted(os.scandir(source / here), key=lambda each: each.name):
            status = found.stat(follow_symlinks=False)
            name = f"{here}/{found.name}".lstrip("/")
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR and status.st_dev == device:
                todo.append(name)
            yield Entry(
                name=name,
                kind=kind,
                mode=stat.S_IMODE(status.st_mode),
                time=int(status.st_mtime),
                link=os.readlink(found.path) if kind == stat.S_IFLNK else "",  # noqa: PTH115 - as it is written
                open=lambda path=found.path: _regular(path),  # type: ignore[misc]
            )


def _regular(path: str) -> IO[bytes]:
    """Neither a link nor a pipe that was put there since we looked fools us."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.fdopen(descriptor, "rb")


class _Careful:
    """A file whose reader cannot be made to take in much at once: a tar header says how long the next one is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        return self._file.read(size)

    def seek(self, at: int, whence: int = 0) -> int:
        return self._file.seek(at, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextlib.contextmanager
def _plain_tar(source: Path, base: Path) -> Iterator[tarfile.TarFile]:
    """The archive, unpacked beside `base` when it is compressed, but not without end."""
    with source.open("rb") as file, contextlib.ExitStack() as stack:
        plain: IO[bytes] = file
        if file.read(2) == GZIP:
            file.seek(0)
            plain = stack.enter_context((base.parent / "plain.tar").open("w+b"))
            with gzip.open(file) as packed:
                _copy_bounded(packed, plain)
        plain.seek(0)
        try:
            yield stack.enter_context(tarfile.open(fileobj=_Careful(plain), mode="r:"))  # type: ignore[call-overload]
        except tarfile.TarError as error:
            raise BadInput(
                f"{source} is no tar archive: {error}", "give a plain tar, one by gzip, or a folder"
            ) from None


def _copy_bounded(source: gzip.GzipFile, out: IO[bytes]) -> None:
    left = 2 * MAX_BYTES
    while data := source.read(CHUNK):
        left -= len(data)
        if left < 0:
            raise TooLarge(f"unpacked more than {2 * MAX_BYTES >> 30} GiB", "take out what steps do not need")
        out.write(data)


KINDS = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.LNKTYPE: 0}


def _of_tar(archive: tarfile.TarFile) -> Iterator[Entry]:
    while member := archive.next():
        archive.members = []  # type: ignore[attr-defined] # it would keep every header until the end
        if not member.isreg() and member.type not in KINDS and not member.isdev():
            raise BadInput(f"{member.name[:80]!r} is of an unknown kind", "archive files, folders and links")
        kind = stat.S_IFREG if member.isreg() else KINDS.get(member.type, stat.S_IFCHR)
        yield Entry(
            name=member.name,
            kind=kind,
            mode=member.mode & 0o7777,
            time=int(member.mtime) if 0 <= member.mtime < LAST_TIME else 0,
            link=member.linkname,
            open=lambda member=member: _content(archive, member),  # type: ignore[misc]
        )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(member)
    if found is None:
        raise tarfile.ReadError(f"{member.name[:80]!r} has no content")
    return found
