"""The anchors file: heads of all chains, outside the database, one signed line a round. Only ever appended to.

A line that a crash cut off stays where it is, and the next line begins behind it. Several processes may write one file:
each takes its lock, and reads first what the others wrote.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engine.domain.chain import GENESIS, Head
from engine.domain.errors import BadInput, Unavailable
from engine.evidence.line import Line, Seen, read, sign

log = structlog.get_logger()

HEADS_A_LINE = 500
LOCK_WAIT_S = 5.0


@dataclass(slots=True)
class Lines:
    """What an anchors file says, as far as it was read.

    `told`: lines that are none, as a crash leaves them. `wrong`: lines that were edited or taken out.
    """

    offset: int = 0
    number: int = 0
    last: str = GENESIS
    last_at: str = ""
    heads: dict[int, Seen] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def take(self, raw: bytes) -> Line | None:
        """One more line; None when it is the rest of a crash."""
        self.offset += len(raw)
        self.number += 1
        try:
            line = read(raw.removesuffix(b"\n").decode("utf-8", "replace"))
        except BadInput:
            if raw != b"\n":
                self.told.append(f"line {self.number} is no anchor ({len(raw)} bytes): a crash cut it off, or an edit")
            return None
        if line.previous != self.last:
            self.wrong.append(f"line {self.number} does not follow the one before it: a line was edited or taken out")
        self.last, self.last_at = line.digest, line.at
        self.heads |= {seen.incident: seen for seen in line.heads}
        return line


@dataclass(slots=True)
class AnchorFile:
    """Writes anchors (`engine.domain.ports.Anchor`)."""

    path: Path
    key: Ed25519PrivateKey
    _known: Lines = field(default_factory=Lines)
    _file: tuple[int, int] = (0, 0)

    def keep(self, heads: Mapping[int, Head], now: datetime) -> tuple[str, ...]:
        """Write what is new among these heads; returns what is wrong. See the port."""
        try:
            with self._locked() as descriptor:
                self._catch_up(descriptor)
                wrong = contradictions(self._known.heads, heads)
                news = [
                    Seen(incident=number, seq=head.seq, hash=head.hash, after=known.seq if known else 0)
                    for number, head in sorted(heads.items())
                    if (known := self._known.heads.get(number)) is None or known.seq < head.seq
                ]
                for first in range(0, len(news), HEADS_A_LINE):
                    self._write(descriptor, now, news[first : first + HEADS_A_LINE])
        except OSError as error:
            self._known = Lines()  # what arrived of it is read anew
            remedy = "make room, or mend its permissions; until then nothing is anchored"
            raise Unavailable(f"cannot write {self.path}: {error.strerror}", remedy) from None
        return (*(f"{self.path}: {what}" for what in self._known.wrong), *wrong)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Unavailable(f"another process holds {self.path}", "it is tried again") from None
                    time.sleep(0.02)
            if is_new:
                _sync_folder(self.path.parent)
            yield descriptor
        finally:
            os.close(descriptor)

    def _catch_up(self, descriptor: int) -> None:
        """Read what other processes wrote. Another file (or a shorter one) in this place is read from its start."""
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != self._file or status.st_size < self._known.offset:
            self._known, self._file = Lines(), (status.st_dev, status.st_ino)
        if self._known.offset == 0:
            os.fsync(descriptor)  # a line whose sync failed may be read, and is not yet safe
        if _rest(descriptor, self._known):
            log.warning("the last line of the anchors was cut off by a crash; going on behind it", file=str(self.path))
            _append(descriptor, b"\n")
            _rest(descriptor, self._known)

    def _write(self, descriptor: int, now: datetime, heads: list[Seen]) -> None:
        line = sign(self.key, previous=self._known.last, at=now, heads=heads)
        data = line.text.encode() + b"\n"
        _append(descriptor, data)
        os.fsync(descriptor)
        self._known.take(data)


def contradictions(anchored: Mapping[int, Seen], heads: Mapping[int, Head]) -> tuple[str, ...]:
    """Chains that are not what was anchored: cut, gone, or with another hash at the same place."""
    found = []
    for number, seen in sorted(anchored.items()):
        head = heads.get(number)
        if head is None:
            found.append(f"incident {number} was anchored and is gone from the database")
        elif head.seq < seen.seq:
            found.append(f"the chain of incident {number} was anchored at event {seen.seq} and ends at {head.seq}")
        elif head.seq == seen.seq and head.hash != seen.hash:
            found.append(f"event {seen.seq} of incident {number} is not the one that was anchored")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Read:
    """An anchors file as it was found. `lines`: those asked for. `known`: what all of it says."""

    lines: tuple[Line, ...]
    known: Lines


def look(path: Path, incident: int | None = None, keys: Mapping[str, Ed25519PublicKey] | None = None) -> Read:
    """Read the whole file; `lines` are those from the first to the last that mention `incident`.

    With `keys`, each line must be signed by one of them. Raises Unavailable; FileNotFoundError when there is none.
    """
    known, kept, whole = Lines(), list[Line](), 0
    try:
        with path.open("rb") as file:
            for raw in file:
                line = known.take(raw)
                if line is None:
                    continue
                if keys is not None and (why := line.complaint(keys)):
                    known.wrong.append(f"line {known.number} {why}")
                mentions = incident is not None and line.head(incident) is not None
                if kept or mentions:
                    kept.append(line)
                whole = len(kept) if mentions else whole
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}", "check its owner and the disk") from None
    return Read(tuple(kept[:whole]), known)


def _rest(descriptor: int, known: Lines) -> bool:
    """Take every whole line that was not read yet; True when behind them lies one without an end."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(known.offset)
        for raw in file:
            if not raw.endswith(b"\n"):
                return True
            known.take(raw)
    return False


def _append(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_folder(folder: Path) -> None:
    """The name of a new file must survive a power cut too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
