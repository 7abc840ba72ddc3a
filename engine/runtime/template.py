"""Templates: a VM saved once, warm and knowing nothing, of which new VMs are clones. Used by the workshop.

libvirt refuses to restore a saved VM under another name, so the header of a copy is rewritten: the struct that libvirt
itself calls stable (src/qemu/qemu_saveimage.h), name, uuid, our mark, and no path of the channel, which libvirt then
makes. The copy has no name in the file system: nothing of it is left, however we end. Every clone gets its own identity
at set-up, with entropy and clock; until then all are alike, so nothing of a step may be in a template.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from engine.domain import digest
from engine.domain.errors import Refused, Unavailable
from engine.runtime import domain_xml
from engine.runtime.domain_xml import Mark
from engine.runtime.host import Host

MAGIC, VERSION = b"LibvirtQemudSave", 2
HEADER = struct.Struct("<16sIIIII56s")  # magic, version, length of the XML's place, was running, format, cookie at, pad
MAX_XML = 4 << 20
SAVING = ".saving-"
KEPT = 4  # templates on disk; one is some 110 MB

SOURCE_OF_CHANNEL = re.compile(r"(<channel type='unix'>\s*)<source [^>]*/>")
NAME, UUID, MARK = (re.compile(text) for text in ("<name>[^<]*</name>", "<uuid>[^<]*</uuid>", r"<v:vm [^>]*/>"))


class Templates:
    """A folder of saved VMs, each in a folder named by everything that it depends on. Thread-safe.

    `process`: who saves, so that what it leaves when it is killed is known to be nobody's.
    """

    def __init__(self, folder: Path, host: Host, process: str) -> None:
        self._folder, self._host, self._process = folder, host, process
        self._verified: dict[Path, tuple[int, int, int]] = {}

    def possible(self) -> bool:
        """Whether the saved files will be ours: libvirt on this machine, in session mode or as root."""
        uri = urlsplit(self._host.uri)
        return uri.scheme == "qemu" and not uri.netloc and (uri.path == "/session" or os.geteuid() == 0)

    def key(self, image_digest: str, xml: str) -> str:
        """What a template of this image and this domain is good for: where any of it differs, it is made anew."""
        parts = {"image": image_digest, "xml": xml, "versions": self._host.versions(), "kernel": platform.release()}
        return digest.of_value(parts).removeprefix("sha256:")[:32]

    def find(self, key: str) -> Path | None:
        """The saved VM, verified; None when there is none or it is not what was saved."""
        path = self._folder / key / "vm.save"
        try:
            status, told = path.stat(), (path.parent / "sha256").read_text()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._verified.get(path) != seen:
                if _sha256(path) != told:
                    shutil.rmtree(path.parent, ignore_errors=True)
                    return None
                self._verified[path] = seen
            os.utime(path.parent)
        except OSError:
            return None
        return path

    def save(self, key: str, uuid: str) -> None:
        """Save this VM as the template; the VM is gone then. Raises Unavailable."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f"{SAVING}{self._process}@", dir=self._folder) as scratch:
                fresh = Path(scratch, key)
                fresh.mkdir()
                self._host.save(uuid, fresh / "vm.save")
                (fresh / "sha256").write_text(_sha256(fresh / "vm.save"))
                shutil.rmtree(self._folder / key, ignore_errors=True)
                fresh.rename(self._folder / key)
            self._forget_old()
        except OSError as error:
            raise Unavailable(f"a VM could not be saved: {error}", f"see that {self._folder} has room") from None

    def restore(self, template: Path, uuid: str, mark: Mark) -> None:
        """A clone, running, under this uuid and mark. Raises Unavailable, Refused (not a file that we can read)."""
        try:
            with template.open("rb") as source, _nameless(template.parent) as copy:
                source_fd, copy_fd = source.fileno(), copy.fileno()
                header = source.read(HEADER.size)
                rest = rewritten(header, source.read(_place(header)), lambda xml: clone_xml(xml, uuid, mark))
                copy.write(rest)
                copy.flush()
                at, end = len(rest), os.fstat(source_fd).st_size
                while at < end:
                    at += os.sendfile(copy_fd, source_fd, at, end - at)
                self._host.restore(Path(f"/proc/{os.getpid()}/fd/{copy_fd}"))
        except OSError as error:
            raise Unavailable(f"a clone could not be made: {error}", "set SIGNALBOX_CLONES=off") from None

    def _forget_old(self) -> None:
        """Keep the few that were used last."""
        folders = [path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        for folder in sorted(folders, key=lambda path: -path.stat().st_mtime)[KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, living: Callable[[], Collection[str]]) -> None:
        """Remove what a process left that died while it saved. Who lives is asked after we looked: see hypervisor."""
        found = list(self._folder.glob(f"{SAVING}*"))
        alive = living() if found else ()
        for folder in found:
            if folder.name.removeprefix(SAVING).partition("@")[0] not in alive:
                shutil.rmtree(folder, ignore_errors=True)


def _place(header: bytes) -> int:
    """How many bytes after the header belong to the XML. Raises Refused for anything but the format that we know."""
    if len(header) != HEADER.size:
        raise Refused("a saved VM is cut off")
    magic, version, length, *_ = HEADER.unpack(header)
    if magic != MAGIC or version != VERSION or length > MAX_XML:
        raise Refused("libvirt saves VMs in a format that we do not know", "set SIGNALBOX_CLONES=off")
    return int(length)


def rewritten(header: bytes, place: bytes, change: Callable[[str], str]) -> bytes:
    """Header and XML of a saved VM with another XML in the same place. Raises Refused when it has no room there."""
    length = _place(header)
    magic, version, _, running, form, cookie_at, pad = HEADER.unpack(header)
    if len(place) != length or cookie_at > length:
        raise Refused("a saved VM is cut off")
    xml = (place[:cookie_at] if cookie_at else place).rstrip(b"\0").decode()
    cookie = place[cookie_at:].rstrip(b"\0") if cookie_at else b""
    head = change(xml).encode() + b"\0"
    body = head + cookie + b"\0"
    if len(body) > length:
        raise Refused("the name of a clone has no room in the saved VM", "set SIGNALBOX_CLONES=off")
    new = HEADER.pack(magic, version, length, running, form, len(head) if cookie else 0, pad)
    return new + body.ljust(length, b"\0")


def clone_xml(xml: str, uuid: str, mark: Mark) -> str:
    """The XML of a clone. Raises Refused when the XML is not as we wrote it."""
    for pattern, new in (
        (NAME, f"<name>{domain_xml.domain_name(mark.task)}</name>"),
        (UUID, f"<uuid>{uuid}</uuid>"),
        (MARK, domain_xml.mark_element(mark, "v:")),
    ):
        xml, count = pattern.subn(new.replace("\\", r"\\"), xml, count=1)
        if count != 1:
            raise Refused("a saved VM does not carry our mark")
    return SOURCE_OF_CHANNEL.sub(r"\1", xml)


def _nameless(folder: Path) -> BinaryIO:
    return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600), "w+b")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
