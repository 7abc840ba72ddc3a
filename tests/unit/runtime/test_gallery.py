"""What lies in the folder of images, and what of it may go: never what is named, open, or being built."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.runtime import gallery, image, inspection, own_root
from tests.unit.runtime import roots

LOCKED_LIKE_QEMU = """
import fcntl, struct, sys
file = open(sys.argv[1], "rb")
fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 100, 1, 0))  # F_OFD_SETLK
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images `step`, `tools` and `old`."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(image, "SCRATCH", tmp_path / "scratch")
    (tmp_path / "vmlinuz").write_bytes(roots.vmlinuz())
    (tmp_path / "initrd").write_bytes(roots.initrd())
    kernel = own_root.Kernel(tmp_path / "vmlinuz", tmp_path / "initrd")
    source = roots.root(tmp_path / "source")
    folder = tmp_path / "images"
    for name in ("tools", "old", "step-to-be"):
        own_root.bring(name, source, folder, examine=inspection.inspect, progress=print, kernel=kernel)
    (folder / "step-to-be").rename(folder / "step")
    return folder


def may_go(images: Path, *needed: str) -> list[str]:
    return [str(found.path.relative_to(images.parent)) for found in gallery.waste(images, needed)]


def test_what_lies_there_is_listed_whole_or_broken(images: Path) -> None:
    """With its packages and size; a broken one says why."""
    (images / "old" / "vmlinuz").unlink()
    old, _, tools = gallery.listed(images)
    assert (tools.name, tools.problem, tools.manifest and len(tools.manifest.packages)) == ("tools", "", 1)
    assert tools.digest == image.image_digest(images, "tools")
    assert "vmlinuz is not there" in old.problem


def test_only_what_nobody_needs_may_go_and_never_the_base(images: Path) -> None:
    """The base serves every gate's probe."""
    assert may_go(images, "tools") == ["images/old"]
    assert may_go(images, "tools", "old") == []
    for found in gallery.waste(images, ()):
        gallery.remove(found)
    assert gallery.names(images) == ("step",)


@contextmanager
def process(*argv: str) -> Iterator[None]:
    """A child that says when it is ready and ends when it is let go."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline()
        yield
        assert child.stdin
        child.stdin.close()


def test_an_image_that_a_vm_has_open_stays(images: Path, tmp_path: Path) -> None:
    """By QEMU's lock on the disk, whatever path it was opened by."""
    other = tmp_path / "another-name"
    other.hardlink_to(images / "old" / "rootfs.erofs")
    with process(sys.executable, "-c", LOCKED_LIKE_QEMU, str(other)):
        assert may_go(images, "tools") == []
    assert may_go(images, "tools") == ["images/old"]


def test_an_image_that_a_command_line_names_stays(images: Path) -> None:
    """By the kernel that QEMU was started with."""
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with process(sys.executable, "-c", code, "-kernel", str(images / "old" / "vmlinuz")):
        assert may_go(images, "tools") == []
    assert may_go(images, "tools") == ["images/old"]


def test_what_a_killed_build_left_may_go_and_a_living_one_s_stays(images: Path) -> None:
    """A living build holds a lock on its scratch folder."""
    dead = image.SCRATCH / f"{image.SCRATCH_PREFIX}dead"
    (dead / "root").mkdir(parents=True)
    (image.SCRATCH / "somebody-else-s").mkdir()
    (images / ".step-abc" / "old").mkdir(parents=True)
    with image.scratch() as living:
        assert living.parent == image.SCRATCH
        assert may_go(images, "tools", "old") == ["images/.step-abc", f"scratch/{dead.name}"]
    for found in gallery.waste(images, ("tools", "old")):
        gallery.remove(found)
    assert [path.name for path in image.SCRATCH.iterdir()] == ["somebody-else-s"]
    assert not (images / ".step-abc").exists()
