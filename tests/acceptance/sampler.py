"""Looks again and again at all processes of this machine and at all VMs while a run goes on."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

import libvirt

from engine.runtime.domain_xml import PREFIX, Mark, read_mark
from tests.acceptance.finder import Kind, Place

libvirt.registerErrorHandler(lambda _context, _error: None, None)  # it would write to stderr what it raises anyway

EVERY_S = 0.5
SHOWN = 500


class Sampler:
    """A thread for the time of a `with` block. What it saw is in `places` afterwards (or meanwhile)."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._lock = threading.Lock()
        self._seen: dict[Place, None] = {}
        self._seen_vms: set[tuple[str, Mark | None]] = set()
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything seen so far, each once."""
        with self._lock:
            return tuple(self._seen)

    def _run(self) -> None:
        try:
            while not self._stop.wait(EVERY_S):
                self._keep(processes())
                self._keep(self._domains())
        except Exception as error:  # noqa: BLE001 - the rim of a thread: a test asks for it, whatever it was
            self.error = error

    def _keep(self, places: Collection[Place]) -> None:
        with self._lock:
            self._seen.update(dict.fromkeys(places))

    def _domains(self) -> list[Place]:
        """XML of VMs not seen before, with what libvirt hides from others."""
        try:
            connection = libvirt.open(self._uri)
        except libvirt.libvirtError:
            return []  # not started yet, or stopped already
        try:
            return [place for domain in connection.listAllDomains() for place in self._described_once(domain)]
        finally:
            connection.close()

    def _described_once(self, domain: libvirt.virDomain) -> list[Place]:
        """Once while it waits for a task, and once when it has one."""
        name = domain.name()
        if not name.startswith(PREFIX) or not (xml := _described(domain)):
            return []
        seen = (name, read_mark(xml))
        if seen in self._seen_vms:
            return []
        self._seen_vms.add(seen)
        return [Place(Kind.DOMAIN_XML, name, xml.encode())]


def processes() -> list[Place]:
    """Arguments and environment of every process, as they are now."""
    places = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            argv, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        name = re.sub(r"[^ -~]+", " ", argv.decode(errors="replace"))[:SHOWN]
        places += [Place(Kind.ARGV, name, argv), Place(Kind.ENVIRON, name, environ)]
    return places


def descriptions(uri: str) -> list[str]:
    """The XML of every VM of a Signalbox that exists now; none when libvirt was stopped."""
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError:
        return []
    try:
        return [xml for domain in connection.listAllDomains() if PREFIX in (xml := _described(domain))]
    finally:
        connection.close()


def works_for(xml: str, task: str) -> bool:
    """Whether this VM is the task's: one that waited in the pool keeps the name that it had there."""
    mark = read_mark(xml)
    return mark is not None and mark.task == task


def pause(uri: str, task: str) -> None:
    """Stop the clock of this task's VM."""
    connection = libvirt.open(uri)
    try:
        [found] = [domain for domain in connection.listAllDomains() if works_for(_described(domain), task)]
        found.suspend()
    finally:
        connection.close()


def _described(domain: libvirt.virDomain) -> str:
    try:
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))
    except libvirt.libvirtError:
        return ""  # it ended meanwhile
