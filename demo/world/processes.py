"""Child processes of the demo, so kept that the next demo finds and ends what a killed one left behind.

A process is ours when its environment holds our mark (the absolute path of our folder), or when its pid, its start
time and this boot are those in a record of ours. Nothing else is ever signalled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.domain.errors import Unavailable

MARK = "DEMO_OF_SIGNALBOX"
GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What proves that a pid is still the process we started. `started`: clock ticks since boot (proc(5), field 22)."""

    name: str
    pid: int
    started: int
    boot: str


class Processes:
    """The children of one demo, by name. `folder` holds a record of each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(
        self, name: str, argv: Sequence[str], *, log: Path, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a child in a session of its own (so that Ctrl-C reaches us first), its output going to `log`.

        `environ` is by default a plain one: what this process knows is not for its children.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**(plain_environ() if environ is None else environ), MARK: self._mark},
                    start_new_session=True,
                )
        except FileNotFoundError:
            raise Unavailable(f"{argv[0]} is not installed", "run `make demo`, which installs what it needs") from None
        self._children[name] = child
        if started := _started(child.pid):
            record = Record(name=name, pid=child.pid, started=started, boot=_boot())
            (self._folder / f"{name}.json").write_text(json.dumps(dataclasses.asdict(record)))
        return child

    def pid(self, name: str) -> int:
        """The pid of a child that was started."""
        return self._children[name].pid

    def child(self, name: str) -> subprocess.Popen[bytes]:
        """The process itself."""
        return self._children[name]

    def alive(self, name: str) -> bool:
        """Whether this child was started and still runs."""
        return name in self._children and self._children[name].poll() is None

    def kill(self, name: str) -> None:
        """End one child at once."""
        self._children[name].kill()
        self._children[name].wait(GRACE_S)
        self._forget(name)

    def stop(self) -> None:
        """End every child, the youngest first, and whatever else carries our mark; raises Unavailable if one lives."""
        for name, child in reversed(self._children.items()):
            if child.poll() is None:
                child.terminate()
            try:
                child.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(GRACE_S)
            self._forget(name)
        self._children.clear()
        self.sweep()
        if left := self.ours():
            raise Unavailable(f"processes did not end: {left}", "kill them by hand")

    def sweep(self) -> tuple[int, ...]:
        """End every process of an earlier demo in this folder; returns their pids."""
        ended = tuple(pid for pid, started in self.ours().items() if _end(pid, started))
        for path in self._folder.glob("*.json"):
            path.unlink()
        return ended

    def ours(self) -> dict[int, int]:
        """Every living process that is proven ours: pid -> start time."""
        found = {}
        for record in self._records():
            if record.boot == _boot() and _started(record.pid) == record.started:
                found[record.pid] = record.started
        mark = f"{MARK}={self._mark}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid() and (started := _started(int(entry.name))):
                # a process of somebody else cannot be read, and is not ours
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = started
        return found

    @property
    def _mark(self) -> str:
        return str(self._folder.resolve())

    def _records(self) -> list[Record]:
        records = []
        for path in self._folder.glob("*.json"):
            # half a record was being written when its writer was killed: the mark finds that process
            with contextlib.suppress(ValueError, TypeError):
                records.append(Record(**json.loads(path.read_text())))
        return records

    def _forget(self, name: str) -> None:
        (self._folder / f"{name}.json").unlink(missing_ok=True)


def tool(*argv: str) -> str:
    """Run a short-lived program and return its output; raises Unavailable when it is missing or fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=plain_environ())
    except FileNotFoundError:
        raise Unavailable(f"{argv[0]} is not installed", "run `make demo`, which installs what it needs") from None
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", None) or "it said nothing"
        raise Unavailable(f"{argv[0]} failed: {said[-500:]}", "is the disk full?") from None
    return done.stdout


def plain_environ() -> dict[str, str]:
    """What a child needs to be found and to run, administrators' tools (mkfs) included."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"}


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> int | None:
    """Start time of a living process, None when there is none (a zombie has ended)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _end(pid: int, started: int) -> bool:
    """TERM, then KILL, through a pidfd: the number may be somebody else's by the time of the signal."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if _started(pid) != started:
                return True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, sign)
            deadline = time.monotonic() + GRACE_S
            while _started(pid) == started and time.monotonic() < deadline:
                time.sleep(0.05)
    finally:
        os.close(handle)
    return True
