"""Images: built when their inputs changed, replaced whole, hashed as they lie there. The slow builder is a stand-in."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import image_names
from engine.domain.errors import BadInput, Unavailable
from engine.runtime import cpio, image, manifest

BUILDER = """
echo "==> pretending"
echo "root of $PACKAGES $MODULES $(cat "$FILES/etc/motd" 2>/dev/null) $(cat "$SETUP" 2>/dev/null)" > "$OUT/rootfs.erofs"
echo kernel > "$OUT/vmlinuz"; : > "$OUT/initrd-base.img"
echo 1.2.3 > "$OUT/kernel"; echo 1700000000 > "$OUT/epoch"
printf 'root\\tjq\\t1.6-2.1\\tamd64\\tjq\\t1.6-2.1\\nkernel\\tlinux\\t6.1\\tall\\tlinux\\t6.1\\n' > "$OUT/packages.tsv"
echo run >> "$COUNTER"
"""


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """How often the slow builder ran, a line each."""
    script = tmp_path / "build.sh"
    script.write_text(BUILDER)
    monkeypatch.setattr(image, "BUILD", script)
    monkeypatch.setattr(image, "TOOLS", {})
    monkeypatch.setenv("COUNTER", str(tmp_path / "counter"))
    return tmp_path / "counter"


def runs(counter: Path) -> int:
    return len(counter.read_text().splitlines())


def test_an_image_that_is_up_to_date_is_not_built_again(counter: Path, tmp_path: Path) -> None:
    """And one whose root changed is."""
    said: list[str] = []
    folder = image.build(image.STEP, tmp_path / "images", progress=said.append)
    first = image.image_digest(tmp_path / "images", "step")
    assert said == ["image step: building the root", "==> pretending", f"image step: ready in {folder}"]
    image.build(image.STEP, tmp_path / "images", progress=said.append)
    assert runs(counter) == 1
    assert image.image_digest(tmp_path / "images", "step") == first
    more = replace(image.STEP, packages=(*image.PACKAGES, "ansible-core"))
    image.build(more, tmp_path / "images", progress=said.append)
    assert runs(counter) == 2
    assert image.image_digest(tmp_path / "images", "step") != first
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False)
    assert checked.returncode == 0
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [".lock", "step"]


def test_a_changed_agent_repacks_the_initramfs_only(counter: Path, tmp_path: Path) -> None:
    """Under a second instead of a minute."""
    agent = tmp_path / "agent.py"
    agent.write_text("print(1)")
    spec = replace(image.STEP, initrd_files={"agent.py": agent})
    folder = image.build(spec, tmp_path / "images", progress=print)
    agent.write_text("print(2)")
    image.build(spec, tmp_path / "images", progress=print)
    assert runs(counter) == 1
    assert b"print(2)" in (folder / "initrd.img").read_bytes()


def test_everything_of_a_spec_reaches_the_builder(counter: Path, tmp_path: Path) -> None:
    """Packages, modules, files, set-up script."""
    spec = image.ImageSpec(
        name="other", packages=("b", "a"), modules=("m",), root_files={"/etc/motd": b"hi"}, setup="echo set up"
    )
    folder = image.build(spec, tmp_path / "images", progress=print)
    assert (folder / "rootfs.erofs").read_text() == "root of a,b m hi echo set up\n"


def test_a_build_that_fails_leaves_the_old_image_and_says_why(
    counter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last lines of the builder are in the message."""
    image.build(image.STEP, tmp_path / "images", progress=print)
    before = image.image_digest(tmp_path / "images", "step")
    broken = tmp_path / "broken.sh"
    broken.write_text("echo 'E: no such package'; exit 3")
    monkeypatch.setattr(image, "BUILD", broken)
    with pytest.raises(Unavailable, match="no such package"):
        image.build(image.STEP, tmp_path / "images", progress=print, force=True)
    assert image.image_digest(tmp_path / "images", "step") == before
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [".lock", "step"]


def test_a_missing_tool_is_named_with_its_package(
    counter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything starts."""
    monkeypatch.setattr(image, "TOOLS", {"no-such-tool": "its-package"})
    with pytest.raises(Unavailable) as caught:
        image.build(image.STEP, tmp_path / "images", progress=print)
    assert caught.value.remedy == "run: apt-get install its-package"


@pytest.mark.parametrize("part", image.PARTS)
def test_one_changed_byte_changes_the_digest_whatever_the_sums_say(counter: Path, tmp_path: Path, part: str) -> None:
    """SHA256SUMS is for people; the digest reads the files."""
    folder = image.build(image.STEP, tmp_path / "images", progress=print)
    before = image.image_digest(tmp_path / "images", "step")
    with (folder / part).open("ab") as file:
        file.write(b"!")
    assert image.image_digest(tmp_path / "images", "step") != before


def test_the_manifest_says_what_is_inside_and_nothing_of_who_built_it(counter: Path, tmp_path: Path) -> None:
    """Packages with their sources, the newest one's date, the parts; two builders write the same bytes."""
    spec = image.spec_of("step-ansible")
    folder = image.build(spec, tmp_path / "images", progress=print)
    other = image.build(spec, tmp_path / "elsewhere" / "images", progress=print)
    found = manifest.read(folder)
    assert (found.name, found.origin, found.variants, found.kernel) == ("step-ansible", "built", ("ansible",), "1.2.3")
    assert found.epoch == 1_700_000_000
    assert [(package.within, package.name, package.source_version) for package in found.packages] == [
        ("kernel", "linux", "6.1"),
        ("root", "jq", "1.6-2.1"),
    ]
    assert found.parts == {part: image.file_digest(folder / part) for part in image.PARTS}
    assert (folder / manifest.FILE).read_bytes() == (other / manifest.FILE).read_bytes()
    assert not {"epoch", "kernel", "packages.tsv"} & {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": 2}', '{"format": 1, "name": "x", "surprise": 1}', " " * (manifest.MAX_BYTES + 1)],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    """Typed on reading, with what to do."""
    (tmp_path / manifest.FILE).write_text(text)
    with pytest.raises(BadInput) as caught:
        manifest.read(tmp_path)
    assert "anew" in caught.value.remedy


def test_a_variant_is_the_base_with_packages_and_a_name_of_its_own() -> None:
    """One table says which there are; an unknown one is refused with the known ones."""
    ansible = image.spec_of(image_names.name_of(["ansible", "ansible"]))
    assert (ansible.name, set(ansible.packages) - set(image.PACKAGES)) == ("step-ansible", {"ansible-core"})
    assert image.spec_of("step") == image.STEP
    with pytest.raises(BadInput, match="no variant terraform") as caught:
        image_names.name_of(["terraform"])
    assert "known: ansible" in caught.value.remedy
    for name in ("step-", "step-terraform", "step-ansible-ansible", "target"):
        with pytest.raises(BadInput, match="no recipe"):
            image.spec_of(name)


def test_the_builder_s_umask_does_not_reach_the_image(counter: Path, tmp_path: Path) -> None:
    """The folders of given files: else /etc of the root would be closed to everybody but root."""
    script = tmp_path / "build.sh"
    script.write_text(script.read_text() + 'stat -c %a "$FILES" "$FILES/etc" "$FILES/etc/motd" > "$OUT/rootfs.erofs"')
    before = os.umask(0o077)
    try:
        spec = image.ImageSpec(name="other", root_files={"/etc/motd": b"hi"})
        folder = image.build(spec, tmp_path / "images", progress=print)
    finally:
        os.umask(before)
    assert (folder / "rootfs.erofs").read_text() == "755\n755\n644\n"
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["../step", "", "a/b", ".", "a b", "Step", "-a"])
def test_an_odd_image_name_is_refused(tmp_path: Path, name: str) -> None:
    """It becomes a path."""
    with pytest.raises(BadInput):
        image.image_digest(tmp_path, name)


def test_a_folder_or_file_that_another_user_cannot_use_is_named(tmp_path: Path) -> None:
    """As QEMU's user sees it: owner, group and others each count for themselves."""
    file = tmp_path / "closed" / "rootfs.erofs"
    file.parent.mkdir()
    file.write_bytes(b"")
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    stranger = 61234
    image.check_readable({"x": file}, stranger, stranger)
    file.chmod(0o600)
    with pytest.raises(BadInput, match=r"rootfs\.erofs cannot be read"):
        image.check_readable({"x": file}, stranger, stranger)
    image.check_readable({"x": file}, file.stat().st_uid, stranger)
    file.parent.chmod(0o700)
    with pytest.raises(BadInput, match="closed cannot be entered"):
        image.check_readable({"x": file}, stranger, stranger)


def test_the_initramfs_is_what_cpio_reads(tmp_path: Path) -> None:
    """Folders first, modes kept, no times; another program unpacks it."""
    made = cpio.archive({"init": cpio.Member(b"#!/bin/sh\n", 0o755), "agent/deep/a.py": cpio.Member(b"x" * 5)})
    assert made == cpio.archive({"agent/deep/a.py": cpio.Member(b"x" * 5), "init": cpio.Member(b"#!/bin/sh\n", 0o755)})
    subprocess.run(["cpio", "-id", "--quiet"], input=made, cwd=tmp_path, check=True)
    assert (tmp_path / "agent/deep/a.py").read_bytes() == b"xxxxx"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755


def test_archives_after_one_another_are_read_and_later_files_win() -> None:
    """As the kernel does it."""
    base = cpio.archive({"init": cpio.Member(b"old"), "m/a.ko": cpio.Member(b"module")})
    ours = cpio.archive({"init": cpio.Member(b"new", 0o755)})
    assert cpio.members(base + ours) == {"init": cpio.Member(b"new", 0o755), "m/a.ko": cpio.Member(b"module")}


def test_a_negative_size_does_not_lead_back_for_ever() -> None:
    """`int` reads a sign, the kernel does not."""
    good = cpio.archive({"init": cpio.Member(b"x" * 50)})
    with pytest.raises(ValueError, match="negative"):
        cpio.members(good[:54] + b"-0000074" + good[62:])


@given(st.binary(max_size=400), st.integers(0, 300))
def test_an_initramfs_of_rubbish_is_a_value_error(rubbish: bytes, at: int) -> None:
    """It may be a stranger's."""
    good = cpio.archive({"init": cpio.Member(b"x" * 50)})
    for data in (rubbish, good[:at] + rubbish + good[at:], good[:at]):
        with contextlib.suppress(ValueError):
            cpio.members(data)
