"""The VM's XML: what must be in it, what must not, and the mark."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.runtime import domain_xml
from engine.runtime.domain_xml import Mark

MARK = Mark(owner="host-1", process="p1", task="a1", run="r1")
FILES = {part: Path("/images/step") / part for part in ("vmlinuz", "initrd.img", "rootfs.erofs")}
UUID = "12345678-1234-1234-1234-123456789abc"
GOLDEN = Path(__file__).parent / "domain.xml"


def test_the_domain_is_the_golden_one() -> None:
    """A change of the VM is a change of this file, seen in review."""
    made = domain_xml.domain(MARK, UUID, FILES, memory_mb=384, kvm=False, qemu_user=(64055, 993))
    assert made == GOLDEN.read_text()


@pytest.mark.parametrize("kvm", [True, False])
@pytest.mark.parametrize("user", [None, (64055, 993)])
def test_no_network_no_usb_no_graphics_no_writable_disk(kvm: bool, user: tuple[int, int] | None) -> None:
    """In every mode."""
    made = domain_xml.domain(MARK, UUID, FILES, memory_mb=384, kvm=kvm, qemu_user=user)
    for absent in ("<interface", "<hostdev", "<graphics", "<video", "<filesystem", "<seclabel type='none'", "qemu:"):
        assert absent not in made
    assert made.count("<disk ") == made.count("<readonly/>") == 1
    assert "<controller type='usb' model='none'/>" in made
    assert ("type='kvm'" in made) is kvm
    assert ("<seclabel type='static' model='dac' relabel='no'><label>+64055:+993</label>" in made) is (user is not None)


def test_a_path_cannot_break_out_of_its_attribute() -> None:
    """Images may lie anywhere."""
    odd = {part: Path("/im'ages<&\">") / part for part in FILES}
    made = domain_xml.domain(MARK, UUID, odd, memory_mb=384, kvm=False, qemu_user=None)
    assert "/im'ages<&" not in made
    assert "&lt;&amp;" in made


def test_the_mark_is_read_back_as_libvirt_gives_it() -> None:
    """libvirt prints the element anew, with its own quotes and order."""
    assert domain_xml.read_mark('<vm xmlns="x" run="r1" owner="host-1" process="p1" task="a1"/>') == MARK
    assert domain_xml.read_mark("<v:vm owner='host-1' process='p1' task='a1' run='r1'/>") == MARK
    assert domain_xml.read_mark("<vm owner='host-1'/>") is None
    assert domain_xml.read_mark("<vm owner='' task='a1' run='r1'/>") is None
