"""The limits of a step inside its VM: a cgroup counts its processes, one tmpfs holds all that it writes. Used by agent.

Both bind a step whatever it runs as; only root of the guest could undo them, and meets the VM's own memory and
processors then. The limit on memory is the VM's. Standard library only: this file runs in the VM.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Started = TypeVar("Started")

UID = 1000
DISK = Path("/run/signalbox/disk")  # mounted by /init: the upper layer of the root lies in it, too
FOLDERS = {"/tmp": 0o1777, "/dev/shm": 0o1777, "/step": 0o755}  # noqa: S108 - of the VM, and laid out anew here
CGROUPS = Path("/sys/fs/cgroup")
STEP = CGROUPS / "step"
MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 2, 4, 32, 4096
NEARLY_FULL = 16 * 1024  # bytes; what is left where nothing more could be written


class Limits:
    """Of one VM. `begin` once it has booted, `set` when it has its task."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._before = (0, 0)
        self._starts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def begin(self) -> None:
        """Folders on the one disk; a cgroup without a limit yet."""
        for place, mode in FOLDERS.items():
            folder = DISK / place.strip("/").replace("/", "-")
            folder.mkdir()
            folder.chmod(mode)
            if place == "/step":
                os.chown(folder, UID, UID)
            self._mount(str(folder), place, MS_BIND)
            self._mount("none", place, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV)
        self._mount("none", str(CGROUPS), 0, kind="cgroup2")
        (CGROUPS / "cgroup.subtree_control").write_text("+pids")
        STEP.mkdir()
        (STEP / "cgroup.type").write_text("threaded")
        threading.Thread(target=self._start, daemon=True).start()
        self.inside(lambda: (STEP / "cgroup.threads").write_text(str(threading.get_native_id())))

    def set(self, processes: int, disk_mb: int) -> None:
        """From here on. `disk_mb` 0: half of the memory, as it was mounted."""
        (STEP / "pids.max").write_text(str(processes + 1))  # the thread that starts it is counted, too
        if disk_mb:
            self._mount("disk", str(DISK), MS_REMOUNT, data=f"size={disk_mb}m")
        self._before = self._events()

    def inside(self, start: Callable[[], Started]) -> Started:
        """What `start` returns, or raises, on a thread that lives in the cgroup: a process is born where its parent is.

        To move it there would cost more than to start it, and what it had started before would stay out.
        """
        results: queue.SimpleQueue[tuple[Started | None, BaseException | None]] = queue.SimpleQueue()

        def called() -> None:
            try:
                results.put((start(), None))
            except BaseException as error:  # noqa: BLE001 - it is raised again, where it was asked for
                results.put((None, error))

        self._starts.put(called)
        started, error = results.get()
        if error is not None:
            raise error
        return started  # type: ignore[return-value] # without an error it is what `start` returned

    def _start(self) -> None:
        while True:
            self._starts.get()()

    def exceeded(self) -> list[str]:
        """Which limits were met since `set`."""
        killed, denied = self._events()
        left = os.statvfs(DISK)
        full = left.f_bavail * left.f_frsize <= NEARLY_FULL or left.f_favail == 0
        met = {"memory": killed > self._before[0], "processes": denied > self._before[1], "disk": full}
        return [name for name, is_met in met.items() if is_met]

    @staticmethod
    def _events() -> tuple[int, int]:
        """How often the kernel killed for want of memory, and denied a process."""
        found = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        denied = dict(line.split() for line in (STEP / "pids.events").read_text().splitlines())
        return int(found["oom_kill"]), int(denied["max"])

    def _mount(self, source: str, target: str, flags: int, *, kind: str = "", data: str = "") -> None:
        words = (word.encode() if word else None for word in (source, target, kind))
        if self._libc.mount(*words, ctypes.c_ulong(flags), data.encode() if data else None) != 0:
            raise OSError(ctypes.get_errno(), f"mount {kind or source} on {target}: {os.strerror(ctypes.get_errno())}")
