"""Artefacts: equal files give equal bytes, hostile archives are refused."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import archive
from engine.domain.errors import BadInput, TooLarge

NAMES = st.from_regex(r"[a-zé0-9_][a-z0-9._-]{0,20}", fullmatch=True)
FILES = st.dictionaries(NAMES.map(lambda name: f"d/{name}"), st.binary(max_size=2000), max_size=8)


@given(FILES)
def test_what_is_packed_is_unpacked_and_order_does_not_matter(files: dict[str, bytes]) -> None:
    """Canonical: one set of files, one archive."""
    packed = archive.pack(files)
    assert archive.unpack(packed) == files
    assert archive.pack(dict(reversed(files.items()))) == packed


@given(st.binary(max_size=4000))
def test_random_bytes_are_no_artefact(data: bytes) -> None:
    """Only BadInput comes out."""
    with pytest.raises(BadInput):
        archive.unpack(data)


@given(st.data())
def test_no_byte_of_an_archive_may_change_unseen(data: st.DataObject) -> None:
    """A changed byte is refused, or it is the content of a file and shows there."""
    files = {"a": b"one", "b/c": b"two" * 300}
    packed = bytearray(archive.pack(files))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(BadInput):
        assert archive.unpack(bytes(packed)) != files


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **more: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for key, value in more.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "members",
    [
        [(_info("../up"), b"")],
        [(_info("/etc/passwd"), b"")],
        [(_info("a/../../b"), b"")],
        [(_info("a//b"), b"")],
        [(_info("./a"), b"")],
        [(_info("a\nb"), b"")],
        [(_info("link", tarfile.SYMTYPE, "/etc"), b"")],
        [(_info("hard", tarfile.LNKTYPE, "a"), b"")],
        [(_info("dev", tarfile.CHRTYPE), b"")],
        [(_info("dir", tarfile.DIRTYPE), b"")],
        [(_info("fifo", tarfile.FIFOTYPE), b"")],
        [(_info("sparse", tarfile.GNUTYPE_SPARSE), b"")],
        [(_info("a"), b"1"), (_info("a"), b"2")],
        [(_info("a"), b"1"), (_info("a/b"), b"2")],
        [(_info("b"), b""), (_info("a"), b"")],
        [(_info("a", mode=0o755), b"")],
        [(_info("a", mtime=1), b"")],
        [(_info("a", uid=1), b"")],
    ],
    ids=lambda members: members[0][0].name + members[-1][0].name,
)
def test_what_is_not_exactly_our_own_archive_is_refused(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Wicked paths, links, devices, duplicates, another order, another mode: none is quietly taken."""
    with pytest.raises(BadInput):
        archive.unpack(_tar(*members))


def test_limits_hold_for_bytes_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the limit is TooLarge, also before anything is unpacked."""
    monkeypatch.setattr(archive, "MAX_BYTES", 5000)
    with pytest.raises(TooLarge):
        archive.pack({"a": b"x" * 5001})
    with pytest.raises(TooLarge):
        archive.unpack(b"\0" * 10001)
    monkeypatch.setattr(archive, "MAX_FILES", 1)
    with pytest.raises(TooLarge):
        archive.pack({"a": b"", "b": b""})
