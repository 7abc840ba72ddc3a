"""One libvirt: the one home of its library. Connection, domains by uuid, their marks and their lines.

Connects when first needed, and again after libvirtd came back. libvirt's calls block and release the interpreter, so
they are made plainly from the worker's threads; its event loop is one daemon thread. Used by machine and hypervisor.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from engine.domain.errors import Unavailable
from engine.runtime import domain_xml
from engine.runtime.channel import Channel
from engine.runtime.domain_xml import Mark
from engine.runtime.guest.wire import PORT
from engine.runtime.transport import Transport

GONE_TIMEOUT_S = 20.0
KEEPALIVE = (10, 6)  # seconds, tries: for a libvirtd that hangs; a dead one closes its socket
UNMARKED = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_METADATA})
READABLE = libvirt.VIR_STREAM_EVENT_READABLE
LINE_EVENTS = READABLE | libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
CPU_PERIOD_US = 100_000
SMALL_SHARE = 20  # of what any other VM gets, as a divisor
WOULD_BLOCK = -2  # of virStreamSend and virStreamRecv
STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "ending",
    libvirt.VIR_DOMAIN_SHUTOFF: "ended",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
}

_events = threading.Lock()
_event_thread: threading.Thread | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A domain that carries our mark."""

    uuid: str
    name: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class State:
    """How a domain is now: "running", "paused", or what libvirt calls it; memory of the guest."""

    word: str
    memory_mb: int


class Host:
    """Thread-safe. Every method raises Unavailable when libvirt does not answer or refuses, unless it says not."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._connecting = threading.Lock()
        self._connection: Any = None
        self._capabilities = ""
        self._lock = threading.Lock()
        self._channels: dict[Channel, Any] = {}  # -> the connection that its line hangs on
        self._held: set[str] = set()

    # -- libvirt itself

    def connect(self) -> Any:
        """The connection, a new one if need be."""
        with self._connecting:
            if self._connection is not None and _alive(self._connection):
                return self._connection
            _start_events()
            try:
                connection = libvirt.open(self.uri)
                connection.setKeepAlive(*KEEPALIVE)
                # A dying libvirtd does not end open streams by itself: without this a task waits for its time-out.
                connection.registerCloseCallback(self._lost, None)
                self._capabilities = connection.getCapabilities()
            except libvirt.libvirtError as error:
                raise self._unavailable(f"libvirt at {self.uri} does not answer", error) from None
            self._connection = connection
            return connection

    def reachable(self) -> None:
        """Return quickly when it answers."""
        try:
            self.connect().getLibVersion()
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt does not answer", error) from None

    def offers_kvm(self) -> bool:
        """What libvirt says; only a boot proves it."""
        self.connect()
        return "<domain type='kvm'" in self._capabilities

    def qemu_user(self) -> tuple[int, int] | None:
        """Who QEMU runs as (system mode): uid, gid."""
        self.connect()
        dac = re.search(r"<model>dac</model>.*?<baselabel[^>]*>\+(\d+):\+(\d+)<", self._capabilities, re.DOTALL)
        return None if dac is None else (int(dac[1]), int(dac[2]))

    def versions(self) -> tuple[str, str]:
        """QEMU's and libvirt's."""
        try:
            connection = self.connect()
            return _dotted(connection.getVersion()), _dotted(connection.getLibVersion())
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt does not answer", error) from None

    def close(self) -> None:
        """Disconnect. Never raises."""
        with self._connecting, contextlib.suppress(libvirt.libvirtError):
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def remedy(self) -> str:
        """What a person can do when it does not answer."""
        if "system" in self.uri:
            return "start libvirtd (scripts/libvirtd.py start, or systemctl start libvirtd), then: signalbox doctor"
        return f"see that libvirt answers: virsh -c {self.uri} version; then: signalbox doctor"

    # -- one VM

    def hold(self, uuid: str) -> None:
        """Somebody in this process works with this VM, or is about to make it."""
        with self._lock:
            self._held.add(uuid)

    def let_go(self, uuid: str) -> None:
        """Nobody does any more; if it lives, it is a leftover."""
        with self._lock:
            self._held.discard(uuid)

    def holds(self, uuid: str) -> bool:
        """Whether somebody in this process works with it."""
        with self._lock:
            return uuid in self._held

    def state(self, uuid: str) -> State | None:
        """How it is now; None when it is gone."""
        try:
            domain = _lookup(self.connect().lookupByUUIDString, uuid)
            if domain is None:
                return None
            number, _, memory_kib, *_ = domain.info()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise self._unavailable("libvirt does not answer", error) from None
        return State(STATES.get(number, f"state {number}"), memory_kib // 1024)

    def xml(self, uuid: str) -> str:
        """libvirt's XML of it as it runs."""
        try:
            return str(self.connect().lookupByUUIDString(uuid).XMLDesc())
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt could not describe a VM", error) from None

    def start(self, xml: str, *, dies_with_us: bool) -> None:
        """Start a transient domain. `dies_with_us`: libvirt destroys it when this connection ends."""
        flags = libvirt.VIR_DOMAIN_START_AUTODESTROY if dies_with_us else 0
        try:
            self.connect().createXML(xml, flags)
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt could not start a VM", error) from None

    def save(self, uuid: str, path: Path) -> None:
        """Write a VM's memory and state into a file; the VM is gone then."""
        self._act(uuid, "save", lambda domain: domain.saveFlags(str(path), None, libvirt.VIR_DOMAIN_SAVE_RUNNING))

    def restore(self, path: Path) -> None:
        """A VM from such a file, running. It does not die with us: libvirt has no such flag here."""
        try:
            self.connect().restoreFlags(str(path), None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt could not restore a VM", error) from None

    def open_line(self, uuid: str, transport: Transport, channel: Channel) -> None:
        """Join the VM's port to a channel; `close_line` is due afterwards."""
        try:
            connection = self.connect()
            domain = connection.lookupByUUIDString(uuid)
            stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
            domain.openChannel(PORT, stream, libvirt.VIR_DOMAIN_CHANNEL_FORCE)
            with self._lock:
                self._channels[channel] = connection
            transport.attach(_StreamLine(stream, channel), channel)
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt gave no line to a VM", error) from None

    def close_line(self, transport: Transport, channel: Channel) -> None:
        """Give the line up. Never raises."""
        transport.close()
        with self._lock:
            self._channels.pop(channel, None)

    def pause(self, uuid: str) -> None:
        """Stop its processors."""
        self._act(uuid, "pause", lambda domain: domain.suspend())

    def resume(self, uuid: str) -> None:
        """Let them go on."""
        self._act(uuid, "resume", lambda domain: domain.resume())

    def yield_to_others(self, uuid: str) -> int | None:
        """Give a VM a small share of the processors; returns the share it had. None where libvirt has no say in that.

        That is session mode, and a machine without the cgroup. Never raises.
        """
        try:
            had: int = self.connect().lookupByUUIDString(uuid).schedulerParameters()["cpu_shares"]
            self.give_share(uuid, max(2, had // SMALL_SHARE))
        except (Unavailable, libvirt.libvirtError, KeyError):
            return None
        return had

    def limit_cpu(self, uuid: str, percent: int) -> bool:
        """Hold a VM, QEMU's own threads included, to so much of one processor; False where libvirt has no say in that.

        That is session mode, and a machine without the cgroup. Never raises.
        """
        quota = {"global_period": CPU_PERIOD_US, "global_quota": CPU_PERIOD_US * percent // 100}
        try:
            self.connect().lookupByUUIDString(uuid).setSchedulerParameters(quota)
        except (Unavailable, libvirt.libvirtError):
            return False
        return True

    def give_share(self, uuid: str, share: int) -> None:
        """Set a VM's share of the processors."""
        self._act(uuid, "schedule", lambda domain: domain.setSchedulerParameters({"cpu_shares": share}))

    def mark(self, uuid: str, mark: Mark) -> None:
        """Say anew whose VM it is, while it lives."""
        self._act(
            uuid,
            "mark",
            lambda domain: domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                domain_xml.mark_element(mark),
                "v",
                domain_xml.NAMESPACE,
                libvirt.VIR_DOMAIN_AFFECT_LIVE,
            ),
        )

    def prove_gone(self, uuid: str) -> bool:
        """Destroy this VM until libvirt says that there is none; False when libvirt does not answer. Never raises."""
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                domain = _lookup(self.connect().lookupByUUIDString, uuid)
                if domain is None:
                    return True
                domain.destroy()
            except (Unavailable, libvirt.libvirtError):
                time.sleep(0.2)
        return False

    def _act(self, uuid: str, verb: str, act: Callable[[Any], object]) -> None:
        try:
            act(self.connect().lookupByUUIDString(uuid))
        except libvirt.libvirtError as error:
            raise self._unavailable(f"libvirt could not {verb} a VM", error) from None

    # -- all VMs

    def named(self, name: str) -> bool:
        """Whether there is a domain of this name."""
        try:
            return _lookup(self.connect().lookupByName, name) is not None
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt does not answer", error) from None

    def names(self) -> frozenset[str]:
        """The names of all domains, ours or not."""
        try:
            return frozenset(domain.name() for domain in self.connect().listAllDomains())
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt does not answer", error) from None

    def marked(self) -> list[Found]:
        """Every domain that carries a mark, whoever its owner is."""
        try:
            found = [(domain, _mark(domain)) for domain in self.connect().listAllDomains()]
            return [Found(domain.UUIDString(), domain.name(), mark) for domain, mark in found if mark is not None]
        except libvirt.libvirtError as error:
            raise self._unavailable("libvirt does not answer", error) from None

    # --

    def _lost(self, connection: Any, _reason: int, _opaque: None) -> None:
        with self._lock:
            channels = [channel for channel, its in self._channels.items() if its is connection]
        for channel in channels:
            channel.ended("the connection to libvirt was lost")

    def _unavailable(self, what: str, error: Exception) -> Unavailable:
        return Unavailable(f"{what}: {error}", self.remedy())


class _StreamLine:
    """A libvirt stream as a line. Its events come on libvirt's thread and go straight to the channel."""

    def __init__(self, stream: Any, channel: Channel) -> None:
        self._stream, self._channel = stream, channel
        stream.eventAddCallback(LINE_EVENTS, self._event, None)

    def send(self, data: bytes) -> int:
        try:
            taken: int = self._stream.send(data)
        except libvirt.libvirtError as error:
            raise OSError(str(error)) from None
        return 0 if taken == WOULD_BLOCK else taken

    def close(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.eventRemoveCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.abort()

    def _event(self, stream: Any, events: int, _opaque: None) -> None:
        try:
            data = stream.recv(256 * 1024) if events & READABLE else b""
            if data == WOULD_BLOCK:
                return
            if data:
                self._channel.received(data)
                return
            reason = "the VM is gone"
        except Exception as error:  # noqa: BLE001 - the rim to libvirt's C code, which would swallow it: nobody waits in vain
            reason = f"the line to the VM broke: {error}"
        self._channel.ended(reason)
        with contextlib.suppress(libvirt.libvirtError):
            stream.eventRemoveCallback()


def _start_events() -> None:
    """libvirt's own event loop in one thread for the process; it must be registered before the first connection."""
    global _event_thread  # noqa: PLW0603 - libvirt's registration is process-wide and happens once
    with _events:
        if _event_thread is None:
            libvirt.virEventRegisterDefaultImpl()
            libvirt.registerErrorHandler(lambda *_: None, None)  # errors arrive as exceptions; keep stderr clean
            _event_thread = threading.Thread(target=_loop, daemon=True, name="libvirt-events")
            _event_thread.start()


def _loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _alive(connection: Any) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def _dotted(version: int) -> str:
    return f"{version // 1000000}.{version // 1000 % 1000}.{version % 1000}"


def _lookup(look: Callable[[str], Any], name: str) -> Any:
    """What `look` finds, or None; raises libvirtError when libvirt does not answer."""
    try:
        return look(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _mark(domain: Any) -> Mark | None:
    """Our mark on a domain; None for a foreign one, or one that is just going."""
    try:
        return domain_xml.read_mark(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, domain_xml.NAMESPACE))
    except libvirt.libvirtError as error:
        if error.get_error_code() in UNMARKED:
            return None
        raise
