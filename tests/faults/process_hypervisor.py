"""A hypervisor whose VMs are processes: each outlives its worker, is found by its mark, and can be destroyed.

The real one is tried in tests/integration/runtime; here many workers die many times, and a process is born in 20 ms.
Nothing is AUTODESTROYed, which is the worst case for whoever takes over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.domain.digest import of_bytes
from engine.domain.errors import Refused, Unavailable
from engine.domain.ports import Ending, Redactor, TaskResult, VmTask
from tests.faults import vm

VM = Path(vm.__file__)
GONE_S = 10


@dataclass
class ProcessHypervisor:
    """VMs of one host, each a file in `folder` as long as it lives. `outlives_s`: see ports.OUTLIVES_TIMEOUT_S."""

    folder: Path
    records: Path
    host: str
    process: str
    outlives_s: float
    _barred: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.records.mkdir(parents=True, exist_ok=True)

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:
        """See `ports.Hypervisor.run`."""
        begun = time.monotonic()
        mark = self._new_mark(task)
        try:
            process = self._born(task, mark)
            try:
                process.wait(task.timeout_s)
                ending = Ending.EXITED if process.returncode == 0 else Ending.VM_LOST
            except subprocess.TimeoutExpired:
                ending = Ending.TIMED_OUT
        finally:
            self._end(mark)
        process.wait()
        with self._lock:
            cancelled = task.id in self._barred
        if cancelled and ending is not Ending.EXITED:
            ending = Ending.CANCELLED
        code = process.returncode if ending is Ending.EXITED else None
        seconds = time.monotonic() - begun
        reason = "" if ending is Ending.EXITED else ending.value
        return TaskResult(
            ending=ending, code=code, stdout="", stderr="", truncated=False, reason=reason, seconds=seconds
        )

    def destroy(self, task_id: str) -> bool:
        """See `ports.Hypervisor.destroy`."""
        with self._lock:
            self._barred.add(task_id)
        return self._end(self._mark(task_id))

    def sweep(self, living: Callable[[], Collection[str]] = tuple) -> tuple[str, ...]:
        """See `ports.Hypervisor.sweep`."""
        return self._end_all(lambda mark: mark["process"] not in living())

    def destroy_all_of(self, run_id: str) -> tuple[str, ...]:
        """See `ports.Hypervisor.destroy_all_of`."""
        return self._end_all(lambda mark: mark["run"] == run_id)

    def image_digest(self, image: str) -> str:
        """See `ports.Hypervisor.image_digest`."""
        return of_bytes(image.encode())

    def reachable(self) -> None:
        """Always."""

    def shortage(self) -> str:
        """Never."""
        return ""

    # -- a VM

    def _born(self, task: VmTask, mark: Path) -> subprocess.Popen[bytes]:
        order = {
            "mark": str(mark),
            "record": str(self.records / f"{task.run_id}.jsonl"),
            "works_s": float(task.env["WORKS_S"]),
            "changes": task.outlives_worker,
            "ends_itself_after_s": task.timeout_s + self.outlives_s,
            "who": {"task": task.id, "leg": task.argv[0], "host": self.host, "process": self.process},
        }
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(VM), json.dumps(order)],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _mark(self, task_id: str) -> Path:
        return self.folder / f"{task_id}.json"

    def _new_mark(self, task: VmTask) -> Path:
        path = self._mark(task.id)
        with self._lock:
            if task.id in self._barred:
                raise Refused(f"task {task.id} was cancelled before it began")
            try:
                mark = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                raise Refused(f"a VM of task {task.id} exists already") from None
        told = {"task": task.id, "run": task.run_id, "process": self.process}
        os.write(mark, json.dumps(told).encode().ljust(1000))
        os.close(mark)
        return path

    def _end_all(self, doomed: Callable[[dict[str, Any]], bool]) -> tuple[str, ...]:
        ended = []
        for path in self.folder.glob("*.json"):
            mark = _read(path)
            if mark is not None and doomed(mark) and self.destroy(mark["task"]):
                ended.append(mark["task"])
        return tuple(ended)

    def _end(self, path: Path) -> bool:
        with _held(path) as descriptor:
            if descriptor is None:
                return False
            mark = json.loads(os.pread(descriptor, 10_000, 0) or b"{}")
            if "pid" in mark and not _killed(mark["pid"], mark["born"]):
                raise Unavailable(f"the VM of {mark['task']} did not end")
            path.unlink()
            return True


@contextlib.contextmanager
def _held(path: Path) -> Iterator[int | None]:
    """A mark that nobody signs or removes meanwhile; None when there is none (any more)."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor if os.fstat(descriptor).st_nlink else None
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # just going, or just coming
        return None
    return told


def _killed(pid: int, born: str) -> bool:
    """Kill a process of ours and see it dead; a pid that was given to somebody else is left alone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if vm.started_at(pid) != born:
            return True
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return bool(select.select([descriptor], [], [], GONE_S)[0])
    except (ProcessLookupError, FileNotFoundError):
        return True
    finally:
        os.close(descriptor)
