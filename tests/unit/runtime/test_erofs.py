"""EROFS images are read as mkfs.erofs writes them, and a hostile one is refused, never followed."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.domain.errors import BadInput
from engine.runtime import erofs


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image: files, a folder of many, links of every kind."""
    base = tmp_path_factory.mktemp("erofs")
    root = base / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "many").mkdir()
    for number in range(600):
        (root / f"many/file-with-a-long-name-{number}").touch()
    (root / "usr/bin/real").write_text("#!/bin/sh\n")
    (root / "usr/bin/real").chmod(0o4755)
    (root / "large").write_bytes(b"a" * 300_000)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/absolute").symlink_to("/usr/bin/real")
    (root / "usr/bin/up").symlink_to("../../../../bin/absolute")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    (root / "through-a-file").symlink_to("large/x")
    image = base / "rootfs.erofs"
    subprocess.run(["mkfs.erofs", "-zlz4hc", "-x-1", str(image), str(root)], check=True, capture_output=True)
    return image


def test_names_modes_and_small_files_are_what_was_packed(packed: Path) -> None:
    """Every file of a folder that spans blocks; compressed content is not read."""
    with erofs.opened(packed) as tree:
        assert sum(path.startswith("many/") for path in tree.nodes) == 600
        assert stat.filemode(tree.nodes["usr/bin/real"].mode) == "-rwsr-xr-x"
        assert tree.nodes["usr/bin/real"].uid == os.getuid()
        assert tree.content("usr/bin/real", 100) == b"#!/bin/sh\n"
        assert tree.content("usr/bin/real", 5) is None
        assert tree.content("large", 1 << 20) is None
        assert tree.nodes["large"].size == 300_000


@pytest.mark.parametrize("path", ["bin/real", "/usr/bin/absolute", "bin/up", "bin/../bin/./real"])
def test_links_are_followed_within_the_root(packed: Path, path: str) -> None:
    """An absolute link begins at the image's root, and `..` does not leave it."""
    with erofs.opened(packed) as tree:
        found = tree.find(path)
        assert found is not None
        assert found[0] == "usr/bin/real"


@pytest.mark.parametrize("path", ["loop", "dangling", "through-a-file", "nothing", "large/x", "usr/nothing/x"])
def test_what_leads_nowhere_is_not_found(packed: Path, path: str) -> None:
    """Loops end."""
    with erofs.opened(packed) as tree:
        assert tree.find(path) is None


def test_a_folder_that_holds_itself_is_refused(packed: Path, tmp_path: Path) -> None:
    """Else walking it would never end. The name `many` is made to lead back to the root."""
    data = bytearray(packed.read_bytes())
    root, meta = struct.unpack_from("<H", data, 1024 + 14)[0], struct.unpack_from("<I", data, 1024 + 40)[0]
    at = meta * 4096 + root * 32
    table = at + (64 if data[at] & 1 else 32)
    (first,) = struct.unpack_from("<H", data, table + 8)
    for entry in range(table, table + first, 12):
        if data[entry + 10] == 2:  # a folder
            struct.pack_into("<Q", data, entry, root)
    bad = tmp_path / "rootfs.erofs"
    bad.write_bytes(data)
    with pytest.raises(BadInput, match="two places"), erofs.opened(bad):
        pass


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\0" * 1024 + b"\xe2\xe1\xf5\xe0"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    """With what was wrong."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadInput, match="no EROFS image"), erofs.opened(tmp_path / "x"):
        pass


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(200, b"\x00")])  # a folder whose table is empty
@given(st.lists(st.tuples(st.integers(0, 60_000), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6))
def test_an_image_with_bytes_changed_reads_or_is_refused(
    packed: Path, tmp_path: Path, changes: list[tuple[int, bytes]]
) -> None:
    """It may be a stranger's: no other error, and it ends."""
    data = bytearray(packed.read_bytes())
    for at, new in changes:
        at += 1024  # noqa: PLW2901 - what comes before is never read
        data[at : at + len(new)] = new
    bad = tmp_path / "rootfs.erofs"
    bad.write_bytes(data)
    try:
        with erofs.opened(bad) as tree:
            for path in list(tree.nodes)[:20]:
                tree.find(path)
                tree.content(path, 4096)
    except BadInput:
        pass
