"""Egress of one VM: the list of exact host:port that it may reach, each connection made here on the host and recorded.

The guest asks for a name and a port; what is not declared is refused without any lookup. What is declared leads to the
address of the directory, never to an address that the guest names. Used by the hypervisor, one per task.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.domain import addresses
from engine.domain.ports import Connection, Reach
from engine.runtime import resolving
from engine.runtime.resolving import NotAllowed, Resolve

CONNECT_TIMEOUT_S = 15.0
IDLE_TIMEOUT_S = 900.0
TRIED = 3  # addresses of one name
MAX_ROWS = 500  # of allowed connections, and as many of refused ones
PRINTABLE = re.compile(r"[A-Za-z0-9._:-]{1,255}")
UNDECLARED = "not declared for this step"


class UsedUp(Exception):
    """The step has sent and received as many bytes as it may."""


@dataclass(slots=True, eq=False)
class Entry:
    """One connection while it lives; or `count` refused alike."""

    host: str
    port: int
    allowed: bool
    begun: float = field(default_factory=time.monotonic)
    up: int = 0
    down: int = 0
    error: str = ""
    seconds: float = 0.0
    count: int = 1
    unlisted: bool = False

    def end(self, error: str = "") -> None:
        """Note that it is over, and why if not by itself."""
        self.seconds = time.monotonic() - self.begun
        self.error = self.error or error


class Egress:
    """The allow-list and the record. Thread-safe. `limit`: bytes in all connections, both ways; None: no limit."""

    def __init__(
        self, reaches: Iterable[Reach], limit: int | None = None, resolve: Resolve = resolving.by_the_system
    ) -> None:
        self._reaches = {(_plain(reach.host), reach.port): reach for reach in reaches}
        self._limit, self._resolve = limit, resolve
        self._lock = threading.Lock()
        self._listed: list[Entry] = []
        self._refused: dict[tuple[str, int, str], Entry] = {}
        self._unlisted: Counter[bool] = Counter()
        self._up = self._down = 0
        self._used_up = False
        self._pins: dict[Reach, tuple[tuple[str, int], ...] | NotAllowed] = {}

    @property
    def used_up(self) -> bool:
        """Whether the limit cut anything off."""
        return self._used_up

    @property
    def limit(self) -> str:
        """The limit, for a person."""
        return f"egress: {(self._limit or 0) / (1 << 20):g} MB"

    def listeners(self) -> list[dict[str, str | int]]:
        """Where the guest listens for each declared host:port: a loopback address a name; an IP literal is itself."""
        known: dict[str, str] = {}
        out: list[dict[str, str | int]] = []
        for host, port in self._reaches:
            if host not in known:
                number = len(known)
                literal = addresses.literal(host) is not None
                known[host] = host if literal else f"127.77.{number // 250}.{number % 250 + 1}"
            out.append({"host": host, "port": port, "address": known[host]})
        return out

    def ask(self, host: str, port: int) -> tuple[Entry, Reach | None]:
        """Decide about one connection; no reach means refused. Never blocks. Every question is recorded."""
        host = _plain(host)
        reach = self._reaches.get((host, port))
        shown = host if PRINTABLE.fullmatch(host) else "(malformed)"
        entry = Entry(shown, port, allowed=True)
        if reach is None or self._used_up:
            self.refuse(entry, self._why_cut() if reach is not None else UNDECLARED)
            return entry, None
        with self._lock:
            if len(self._listed) < MAX_ROWS:
                self._listed.append(entry)
            else:
                entry.unlisted = True
                self._unlisted[True] += 1
        return entry, reach

    def refuse(self, entry: Entry, reason: str) -> None:
        """This connection was not to be. Those refused alike are one row with their number."""
        with self._lock:
            if entry.unlisted:
                self._unlisted[True] -= 1
            elif entry in self._listed:
                self._listed.remove(entry)
            entry.allowed, entry.error = False, reason
            alike = (entry.host, entry.port, reason)
            if alike in self._refused:
                self._refused[alike].count += 1
            elif len(self._refused) < MAX_ROWS:
                self._refused[alike] = entry
            else:
                self._unlisted[False] += 1

    def connect(self, reach: Reach) -> socket.socket:
        """Dial what stands behind a declared name; raises OSError, NotAllowed.

        The name is resolved once; what it led to then, checked, is all that it ever leads to in this task.
        """
        connection, address = _dial(self._checked(reach))
        connection.settimeout(IDLE_TIMEOUT_S)
        with self._lock:
            self._pins[reach] = (address,)
        return connection

    def _checked(self, reach: Reach) -> tuple[tuple[str, int], ...]:
        with self._lock:
            pinned = self._pins.get(reach)
        if pinned is None:
            try:
                found: tuple[tuple[str, int], ...] | NotAllowed = resolving.ends(reach, self._resolve)
            except NotAllowed as refusal:
                found = refusal
            with self._lock:
                pinned = self._pins.setdefault(reach, found)
        if isinstance(pinned, NotAllowed):
            raise NotAllowed(str(pinned))
        return pinned

    def spend(self, entry: Entry, *, up: int = 0, down: int = 0) -> None:
        """So many bytes are about to cross. Raises UsedUp when they may not."""
        with self._lock:
            if self._limit is not None and self._up + self._down + up + down > self._limit:
                self._used_up = True
                entry.error = self._why_cut()
                raise UsedUp(entry.error)
            self._up, self._down = self._up + up, self._down + down
            entry.up, entry.down = entry.up + up, entry.down + down

    def _why_cut(self) -> str:
        return f"the step's limit is met ({self.limit})"

    def records(self) -> tuple[Connection, ...]:
        """What happened, in order; a flood ends in a row that counts what is not listed, with its bytes."""
        with self._lock:
            entries = [*self._listed, *self._refused.values()]
            rows = [_row(entry) for entry in sorted(entries, key=lambda entry: entry.begun)]
            for allowed, count in sorted(self._unlisted.items()):
                if count:
                    more = Entry("(more)", 0, allowed, error=f"{count} more connections are not listed", count=count)
                    if allowed:
                        more.up = self._up - sum(entry.up for entry in self._listed)
                        more.down = self._down - sum(entry.down for entry in self._listed)
                    rows.append(_row(more))
            return tuple(rows)


def _dial(ends: Iterable[tuple[str, int]]) -> tuple[socket.socket, tuple[str, int]]:
    """The first of these literal addresses that answers; raises the last one's OSError."""
    failure = OSError("no address")
    for end in tuple(ends)[:TRIED]:
        try:
            return socket.create_connection(end, timeout=CONNECT_TIMEOUT_S), end
        except OSError as error:
            failure = error
    raise failure


def _row(entry: Entry) -> Connection:
    return Connection(
        host=entry.host,
        port=entry.port,
        allowed=entry.allowed,
        bytes_up=entry.up,
        bytes_down=entry.down,
        seconds=round(entry.seconds, 3),
        error=entry.error,
        count=entry.count,
    )


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")
