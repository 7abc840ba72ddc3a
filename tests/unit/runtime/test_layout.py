"""A root from a stranger's tar or folder: what is refused, what is left out, and that nothing lands outside."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.domain.errors import BadInput, TooLarge
from engine.runtime import layout

Add = Callable[[tarfile.TarFile], object]


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = "", mode: int = 0o644) -> Add:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode, info.mtime = kind, len(content), link, mode, 1_600_000_000
    return lambda archive: archive.addfile(info, io.BytesIO(content))


def tar(path: Path, *entries: Add) -> Path:
    with tarfile.open(path, "w") as archive:
        for add in entries:
            add(archive)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "work" / "root").mkdir(parents=True)
    (tmp_path / "secret").write_text("outside")
    return tmp_path / "work" / "root"


HOSTILE: list[tuple[str, tuple[Add, ...], str]] = [
    ("absolute", (entry("/etc/passwd"),), "no name within a root"),
    ("upwards", (entry("../../secret"),), "no name within a root"),
    ("upwards from within", (entry("a/../../secret"),), "no name within a root"),
    ("deep", (entry("/".join("d" * 70)),), "no name within a root"),
    ("long", (entry("n" * 300),), "no name within a root"),
    ("through a link", (entry("a", tarfile.SYMTYPE, link="../.."), entry("a/secret")), "leads through 'a'"),
    ("through an absolute link", (entry("a", tarfile.SYMTYPE, link="/etc"), entry("a/x/y")), "leads through 'a'"),
    ("through a file", (entry("a"), entry("a/b")), "leads through 'a'"),
    ("a link, then a file of its name", (entry("a", tarfile.SYMTYPE, link="../../secret"), entry("a")), "comes twice"),
    ("a folder over a link", (entry("a", tarfile.SYMTYPE, link="/etc"), entry("a", tarfile.DIRTYPE)), "comes twice"),
    ("a file over a folder", (entry("a", tarfile.DIRTYPE), entry("a")), "comes twice"),
    ("a hard link outwards", (entry("a", tarfile.LNKTYPE, link="../../secret"),), "no name within a root"),
    ("a hard link to an absolute name", (entry("a", tarfile.LNKTYPE, link="/etc/passwd"),), "no name within a root"),
    (
        "a hard link through a link",
        (entry("a", tarfile.SYMTYPE, link="../../secret"), entry("b", tarfile.LNKTYPE, link="a")),
        "no file before it",
    ),
    ("a link to nothing", (entry("a", tarfile.SYMTYPE, link=""),), "links to nowhere"),
    ("a file for the root", (entry("."),), "the root is no folder"),
    ("an unknown kind", (entry("a", b"V"),), "unknown kind"),
]


@pytest.mark.parametrize(("entries", "why"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_hostile_tar_is_refused_and_touches_nothing(
    tmp_path: Path, base: Path, entries: tuple[Add, ...], why: str
) -> None:
    """Whatever it tries, what lies outside stays as it was."""
    archive = tar(tmp_path / "x.tar", *entries)
    before = sorted(path for path in tmp_path.rglob("*") if base not in path.parents)
    with pytest.raises(BadInput, match=why):
        layout.lay_out(archive, base)
    assert sorted(path for path in tmp_path.rglob("*") if base not in path.parents) == before
    assert (tmp_path / "secret").read_text() == "outside"


def test_a_bomb_is_refused(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many bytes, too many entries, too much when unpacked."""
    monkeypatch.setattr(layout, "MAX_BYTES", 100_000)
    with pytest.raises(TooLarge, match="GiB"):
        layout.lay_out(tar(tmp_path / "x.tar", entry("a", content=b"x" * 200_000)), base)
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(b"\0" * 1_000_000))
    with pytest.raises(TooLarge, match="unpacked"):
        layout.lay_out(packed, base)
    monkeypatch.setattr(layout, "MAX_ENTRIES", 5)
    with pytest.raises(TooLarge, match="files"):
        layout.lay_out(tar(tmp_path / "y.tar", *(entry(f"f{number}") for number in range(9))), base)


def test_a_header_that_promises_gigabytes_is_refused_unread(tmp_path: Path, base: Path) -> None:
    """Python's tarfile would read a long name of any length into memory."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)
    with pytest.raises(BadInput, match="header is too large"):
        layout.lay_out(tmp_path / "x.tar", base)


def test_devices_are_left_out_and_rights_are_dropped(tmp_path: Path, base: Path) -> None:
    """No setuid, no setgid; the sticky bit of /tmp stays; links are copied as they are written."""
    made = layout.lay_out(
        tar(
            tmp_path / "x.tar",
            entry("./"[:1], tarfile.DIRTYPE, mode=0o755),
            entry("./dev/null", tarfile.CHRTYPE),
            entry("./pipe", tarfile.FIFOTYPE),
            entry("./tmp", tarfile.DIRTYPE, mode=0o1777),
            entry("./bin/su", content=b"x", mode=0o6755),
            entry("./bin/sg", tarfile.LNKTYPE, link="./bin/su"),
            entry("./closed", content=b"x", mode=0),
            entry("./out", tarfile.SYMTYPE, link="/etc/shadow"),
        ),
        base,
    )
    assert made.left_out == 2
    assert sorted(path.name for path in base.iterdir()) == ["bin", "closed", "out", "tmp"]
    modes = {name: stat.S_IMODE((base / name).lstat().st_mode) for name in ("tmp", "bin/su", "bin/sg", "closed")}
    assert modes == {"tmp": 0o1777, "bin/su": 0o755, "bin/sg": 0o755, "closed": 0o400}
    assert (base / "out").readlink() == Path("/etc/shadow")
    assert (base / "bin/su").stat().st_mtime == made.newest == 1_600_000_000
    assert made.files == {"bin/su", "bin/sg", "closed"}


def test_a_folder_and_its_tar_give_the_same(tmp_path: Path, base: Path) -> None:
    """Files, modes, times and links; a link out of the folder is not followed."""
    source = tmp_path / "source"
    (source / "usr/bin").mkdir(parents=True)
    (source / "usr/bin/tool").write_text("#!/bin/sh\n")
    (source / "usr/bin/tool").chmod(0o4755)
    (source / "bin").symlink_to("usr/bin")
    (source / "out").symlink_to(tmp_path / "secret")
    os.mkfifo(source / "pipe")
    os.utime(source / "usr/bin/tool", (1_500_000_000, 1_500_000_000))
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(source, arcname=".")
    other = base.parent / "other"
    other.mkdir()

    made = layout.lay_out(source, base), layout.lay_out(tmp_path / "x.tar.gz", other)

    assert made[0].files == made[1].files == {"usr/bin/tool"}
    assert made[0].newest == made[1].newest
    assert _seen(base) == _seen(other)
    assert (base / "out").is_symlink()


def _seen(base: Path) -> list[tuple[str, int, int]]:
    found = [(path, path.lstat()) for path in sorted(base.rglob("*"))]
    return [(str(path.relative_to(base)), status.st_mode, int(status.st_mtime)) for path, status in found]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=20)), min_size=1, max_size=5))
def test_a_tar_with_bytes_changed_is_laid_out_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    """No other error, and it ends, whatever numbers its headers hold."""
    here = tmp_path_factory.mktemp("fuzz")
    archive = tar(
        here / "x.tar", entry("a", content=b"x" * 700), entry("b" * 150), entry("c", tarfile.SYMTYPE, link="a")
    )
    data = bytearray(archive.read_bytes())
    for at, new in changes:
        data[at : at + len(new)] = new
    archive.write_bytes(data)
    (here / "root").mkdir()
    with contextlib.suppress(BadInput, TooLarge):
        layout.lay_out(archive, here / "root")
    assert sorted(path.name for path in here.iterdir()) == ["root", "x.tar"]
