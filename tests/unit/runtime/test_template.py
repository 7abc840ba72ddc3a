"""The header of a saved VM, rewritten for a clone; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.domain.errors import Refused
from engine.runtime import domain_xml, template
from engine.runtime.domain_xml import WAITING, Mark
from engine.runtime.host import Host
from engine.runtime.template import HEADER, MAGIC, Templates, clone_xml, rewritten

SAVED = Mark(owner="host-1", process="template", task="template", run=WAITING)
TASK = Mark(owner="host-1", process="p2", task="a-7", run="run-9")
FILES = {part: Path("/images/step") / part for part in ("vmlinuz", "initrd.img", "rootfs.erofs")}
XML = domain_xml.domain(SAVED, "uuid-1", FILES, memory_mb=384, kvm=False, qemu_user=None).replace(
    "<channel type='unix'>", "<channel type='unix'>\n <source mode='bind' path='/var/lib/libvirt/qemu/1/agent.0'/>"
)


def saved(xml: str, cookie: bytes, place: int = 8192, magic: bytes = MAGIC, version: int = 2) -> tuple[bytes, bytes]:
    head = xml.encode() + b"\0"
    header = HEADER.pack(magic, version, place, 1, 0, len(head) if cookie else 0, b"")
    return header, (head + cookie + b"\0").ljust(place, b"\0")


@pytest.mark.parametrize("cookie", [b"", b"<cookie/>"])
def test_a_clone_has_another_name_uuid_and_mark_and_no_path_of_its_channel(cookie: bytes) -> None:
    """And the place of the XML keeps its length, so that QEMU's part begins where it did."""
    made = rewritten(*saved(XML, cookie), lambda xml: clone_xml(xml, "uuid-2", TASK))
    assert len(made) == HEADER.size + 8192
    _, _, place, _, _, cookie_at, _ = HEADER.unpack(made[: HEADER.size])
    body = made[HEADER.size :]
    text = (body[:cookie_at] if cookie else body).rstrip(b"\0").decode()
    assert place == 8192
    assert "<name>signalbox-a-7</name>" in text
    assert "<uuid>uuid-2</uuid>" in text
    assert domain_xml.read_mark(text) == TASK
    assert "<source mode='bind'" not in text
    assert text.count("<source ") == 1, "the disk keeps its own"
    if cookie:
        assert body[cookie_at:].rstrip(b"\0") == cookie


@pytest.mark.parametrize(
    ("header", "place"),
    [
        saved(XML, b"", magic=b"LibvirtQemudPart"),
        saved(XML, b"", version=3),
        (saved(XML, b"")[0], b"cut off"),
        (b"short", b""),
    ],
    ids=["magic", "version", "cut off", "no header"],
)
def test_anything_but_the_format_that_we_know_is_refused(header: bytes, place: bytes) -> None:
    with pytest.raises(Refused):
        rewritten(header, place, lambda xml: xml)


def test_a_name_that_has_no_room_is_refused() -> None:
    header, place = saved(XML, b"", place=len(XML.encode()) + 2)
    with pytest.raises(Refused, match="no room"):
        rewritten(header, place, lambda xml: xml + "x" * 100)


def test_a_saved_vm_without_our_mark_is_refused() -> None:
    with pytest.raises(Refused, match="mark"):
        clone_xml("<domain><name>x</name><uuid>y</uuid></domain>", "uuid-2", TASK)


@pytest.mark.parametrize(
    ("uri", "possible"),
    [
        ("qemu:///session", True),
        ("qemu+ssh://other/system", False),
        ("qemu://other/session", False),
        ("test:///x", False),
    ],
)
def test_clones_need_files_that_are_ours_on_this_machine(tmp_path: Path, uri: str, possible: bool) -> None:
    assert Templates(tmp_path, Host(uri), "p").possible() is possible


def test_a_saved_vm_that_was_touched_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    folder.mkdir()
    (folder / "vm.save").write_bytes(b"saved")
    (folder / "sha256").write_text(template._sha256(folder / "vm.save"))
    templates = Templates(tmp_path, Host("qemu:///session"), "p")
    assert templates.find("key") == folder / "vm.save"
    assert templates.find("other") is None
    (folder / "vm.save").write_bytes(b"tampered")
    assert templates.find("key") is None
    assert not folder.exists(), "it is made anew"


def test_what_a_process_left_that_died_while_it_saved_is_removed(tmp_path: Path) -> None:
    """A living one may be saving just now."""
    for name in (".saving-dead-1@x", ".saving-busy-2@y", "a-template"):
        (tmp_path / name / "key").mkdir(parents=True)
    Templates(tmp_path, Host("qemu:///session"), "p").sweep(living=lambda: ["busy-2"])
    assert {path.name for path in tmp_path.iterdir()} == {".saving-busy-2@y", "a-template"}
