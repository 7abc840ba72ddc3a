"""Egress of one VM: the list of exact host:port that it may reach, each connection made here on the host and recorded.

The guest asks for a name and a port; what is not declared is refused without any lookup. What is declared leads to the
address of the directory, never to an address that the guest names. Used by the hypervisor, one per task.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.domain.ports import Connection, Reach

CONNECT_TIMEOUT_S = 15.0
IDLE_TIMEOUT_S = 900.0
MAX_ROWS = 500
PRINTABLE = re.compile(r"[A-Za-z0-9._:-]{1,255}")


@dataclass(slots=True)
class Entry:
    """One connection while it lives."""

    host: str
    port: int
    allowed: bool
    begun: float = field(default_factory=time.monotonic)
    up: int = 0
    down: int = 0
    error: str = ""
    seconds: float = 0.0

    def end(self, error: str = "") -> None:
        """Note that it is over, and why if not by itself."""
        self.seconds = time.monotonic() - self.begun
        self.error = self.error or error


class Egress:
    """The allow-list and the record. Thread-safe."""

    def __init__(self, reaches: Iterable[Reach]) -> None:
        self._reaches = {(_plain(reach.host), reach.port): reach for reach in reaches}
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._unlisted: Counter[bool] = Counter()
        self._pins: dict[Reach, tuple[str, int]] = {}

    def listeners(self) -> list[dict[str, str | int]]:
        """Where the guest listens for each declared host:port: a loopback address a name; an IP literal is itself."""
        addresses: dict[str, str] = {}
        out: list[dict[str, str | int]] = []
        for host, port in self._reaches:
            if host not in addresses:
                number = len(addresses)
                addresses[host] = host if _is_literal(host) else f"127.77.{number // 250}.{number % 250 + 1}"
            out.append({"host": host, "port": port, "address": addresses[host]})
        return out

    def ask(self, host: str, port: int) -> tuple[Entry, Reach | None]:
        """Decide about one connection; no reach means refused. Every question is recorded."""
        host = _plain(host)
        reach = self._reaches.get((host, port))
        shown = host if PRINTABLE.fullmatch(host) else "(malformed)"
        entry = Entry(shown, port, allowed=reach is not None)
        if reach is None:
            entry.error = "not declared for this step"
        with self._lock:
            if sum(kept.allowed is entry.allowed for kept in self._entries) < MAX_ROWS:
                self._entries.append(entry)
            else:
                self._unlisted[entry.allowed] += 1
        return entry, reach

    def connect(self, reach: Reach) -> socket.socket:
        """Dial what stands behind a declared name; raises OSError. A name is resolved once and then pinned."""
        with self._lock:
            address = self._pins.get(reach, (reach.address, reach.address_port))
        connection = socket.create_connection(address, timeout=CONNECT_TIMEOUT_S)
        connection.settimeout(IDLE_TIMEOUT_S)
        with self._lock:
            host, port = connection.getpeername()[:2]
            self._pins.setdefault(reach, (host, port))
        return connection

    def records(self) -> tuple[Connection, ...]:
        """What happened, in order; a flood ends in one row that counts what is not listed."""
        with self._lock:
            rows = [_row(entry) for entry in self._entries]
            rows += [
                Connection(
                    host="(more)",
                    port=0,
                    allowed=allowed,
                    bytes_up=0,
                    bytes_down=0,
                    seconds=0.0,
                    error=f"{count} more connections are not listed",
                )
                for allowed, count in sorted(self._unlisted.items())
            ]
            return tuple(rows)


def _row(entry: Entry) -> Connection:
    return Connection(
        host=entry.host,
        port=entry.port,
        allowed=entry.allowed,
        bytes_up=entry.up,
        bytes_down=entry.down,
        seconds=round(entry.seconds, 3),
        error=entry.error,
    )


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
