"""An operator's own root becomes an image only when every look finds it fit; each defect is found, with a remedy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.domain.errors import BadInput, Refused
from engine.runtime import image, inspection, manifest, own_root
from engine.runtime.own_root import Kernel
from tests.unit.runtime import roots

Bend = Callable[[Path], object]


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    (tmp_path / "vmlinuz").write_bytes(roots.vmlinuz())
    (tmp_path / "initrd").write_bytes(roots.initrd())
    return Kernel(tmp_path / "vmlinuz", tmp_path / "initrd", "step")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return roots.root(tmp_path / "source")


def bring(source: Path, images: Path, kernel: Kernel, name: str = "tools") -> Path:
    return own_root.bring(name, source, images, examine=inspection.inspect, progress=print, kernel=kernel)


def test_a_folder_its_tar_and_the_packed_image_are_the_same_image(tmp_path: Path, source: Path, kernel: Kernel) -> None:
    """Two imports give the same digest, whichever way the content came; the agent of this release is in it."""
    subprocess.run(["tar", "-C", source, "-czf", tmp_path / "x.tar.gz", "."], check=True)
    images = tmp_path / "images"

    first = bring(source, images, kernel)
    again = bring(tmp_path / "x.tar.gz", tmp_path / "other", kernel)
    packed = bring(first / "rootfs.erofs", tmp_path / "third", kernel)

    assert len({image.image_digest(folder.parent, "tools") for folder in (first, again, packed)}) == 1
    assert [finding.part for finding in inspection.inspect(first) if finding.well] == [
        "manifest", "root", "kernel", "agent",
    ]  # fmt: skip
    known = manifest.read(first)
    assert (known.origin, known.kernel, known.kernel_of) == ("imported", roots.RELEASE, "step")
    assert [(each.name, each.version, each.source, each.source_version) for each in known.packages] == [
        ("jq", "1.6-2.1", "jq-source", "1.6-2")
    ]
    assert sorted(path.name for path in images.iterdir()) == [".lock", "tools"]


def no(path: str) -> Bend:
    return lambda root: (root / path).unlink()


def passwd(text: str) -> Bend:
    return lambda root: (root / "etc/passwd").write_text(text)


UNFIT: list[tuple[Bend, str]] = [
    (no("usr/sbin/ip"), "/sbin/ip is missing.* - install iproute2"),
    (no("usr/bin/ssh"), "/usr/bin/ssh is missing.* - install openssh-client"),
    (no("bin"), "/bin/sh is missing.* - install dash"),
    (no("usr/bin/python3"), "/usr/bin/python3 is missing"),
    (lambda root: (root / "usr/sbin/ip").chmod(0o700), "not everybody may run it"),
    (lambda root: (root / "proc").rmdir(), "no folder /proc: /init mounts there - mkdir -p /proc"),
    (passwd(""), "no user `step` with uid 1000"),
    (passwd("other:x:1000:1000::/step:/bin/sh\n"), "no user `step`"),
    (passwd(roots.PASSWD + "twin:x:1000:0::/root:/bin/sh\n"), "or several of that uid"),
    (passwd(roots.PASSWD.replace("/step:", "/home/step:")), "home /step"),
]


@pytest.mark.parametrize(("bend", "why"), UNFIT)
def test_a_root_that_lacks_something_is_refused_and_the_old_image_stays(
    tmp_path: Path, source: Path, kernel: Kernel, bend: Bend, why: str
) -> None:
    """Each with what to do; nothing is left of it."""
    images = tmp_path / "images"
    bring(source, images, kernel)
    before = image.image_digest(images, "tools")
    bend(source)
    with pytest.raises(Refused, match=why):
        bring(source, images, kernel)
    assert image.image_digest(images, "tools") == before
    assert sorted(path.name for path in images.iterdir()) == [".lock", "tools"]


def test_an_old_python_is_found_by_its_name(tmp_path: Path, source: Path, kernel: Kernel) -> None:
    """The trial boot asks Python itself; this is told without one."""
    (source / "usr/bin/python3.11").rename(source / "usr/bin/python3.8")
    (source / "usr/bin/python3").unlink()
    (source / "usr/bin/python3").symlink_to("/usr/bin/python3.8")
    with pytest.raises(Refused, match=r"python3\.8 is too old - install Python 3\.9"):
        bring(source, tmp_path / "images", kernel)


def test_setuid_is_dropped_by_our_packing_and_found_in_a_ready_image(
    tmp_path: Path, source: Path, kernel: Kernel
) -> None:
    """A step stays `step`. In a folder of one's own it is mended, in what was packed elsewhere it is refused."""
    (source / "usr/bin/sudo").write_text("x")
    (source / "usr/bin/sudo").chmod(0o4755)
    bring(source, tmp_path / "images", kernel)
    packed = tmp_path / "own.erofs"
    subprocess.run(["mkfs.erofs", str(packed), str(source)], check=True, capture_output=True)
    with pytest.raises(Refused, match="setuid or setgid: /usr/bin/sudo"):
        bring(packed, tmp_path / "images", kernel)


def test_a_kernel_needs_its_own_modules(tmp_path: Path, source: Path, kernel: Kernel) -> None:
    """Else the first insmod fails in the VM, in the night."""
    kernel.vmlinuz.write_bytes(roots.vmlinuz("6.12.0-1-other"))
    with pytest.raises(Refused, match=r"modules of another kernel than 6\.12\.0-1-other: m/100-erofs\.ko"):
        bring(source, tmp_path / "images", kernel)
    kernel.vmlinuz.write_bytes(b"\x7fELF" * 2000)
    with pytest.raises(BadInput, match="no x86 Linux kernel"):
        bring(source, tmp_path / "images", kernel)


def test_a_compressed_initramfs_is_refused(tmp_path: Path, source: Path, kernel: Kernel) -> None:
    """Nobody could say what is in it."""
    kernel.initrd.write_bytes(b"\x1f\x8b" + roots.initrd())
    with pytest.raises(Refused, match="it may be compressed"):
        bring(source, tmp_path / "images", kernel)


@pytest.mark.parametrize("name", ["step", "step-ansible", "../x", "Tools", ""])
def test_a_name_that_is_not_free_or_not_plain_is_refused(
    tmp_path: Path, source: Path, kernel: Kernel, name: str
) -> None:
    """`step` is what every gate's probe boots."""
    with pytest.raises(BadInput):
        bring(source, tmp_path / "images", kernel, name)


def test_the_kernel_comes_from_the_base_image(tmp_path: Path, source: Path, kernel: Kernel) -> None:
    """Without one: the command that builds it."""
    images = tmp_path / "images"
    with pytest.raises(BadInput) as caught:
        own_root.bring("tools", source, images, examine=inspection.inspect, progress=print)
    assert caught.value.remedy == "run: signalbox image build step"
    base = bring(source, images, kernel, "base-to-be")
    shutil.move(base, images / "step")
    folder = own_root.bring("tools", source, images, examine=inspection.inspect, progress=print)
    assert manifest.read(folder).kernel_of == "step"


@pytest.mark.parametrize("part", [*image.PARTS, manifest.FILE])
def test_a_part_that_changed_after_the_building_is_found(
    tmp_path: Path, source: Path, kernel: Kernel, part: str
) -> None:
    """Whatever was changed, and when a part is gone."""
    folder = bring(source, tmp_path / "images", kernel)
    with (folder / part).open("ab") as file:
        file.write(b"!")
    bad = [finding for finding in inspection.inspect(folder) if not finding.well]
    assert part in " ".join(finding.text for finding in bad)
    (folder / part).unlink()
    bad = [finding for finding in inspection.inspect(folder) if not finding.well]
    assert part in " ".join(finding.text for finding in bad)
    assert all(finding.remedy for finding in bad)


def test_another_agent_than_this_release_s_is_found(tmp_path: Path, source: Path, kernel: Kernel) -> None:
    """An image that stayed while Signalbox was upgraded."""
    folder = bring(source, tmp_path / "images", kernel)
    path = folder / "initrd.img"
    path.write_bytes(path.read_bytes().replace(b"class Agent", b"class Tnega"))
    [_, finding] = [finding for finding in inspection.inspect(folder) if not finding.well]
    assert finding.text == "not what this release has in the initramfs: agent/engine/runtime/guest/agent.py"
