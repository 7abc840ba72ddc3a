"""An ordinary user with a libvirt of its own, for tests of session mode: as root, qemu:///session is the system's.

When the tests run as root, commands run as `signalbox-test` (made by scripts/setup.sh), in a mount namespace where the
interpreter, this checkout and the images can be read even if they lie below somebody's closed home. When they run as an
ordinary user already, as that user. Afterwards every process that has this HOME is ended: libvirtd, and what it left.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER = "signalbox-test"
PROGRAMS = {"setpriv": "util-linux", "unshare": "util-linux", "virsh": "libvirt-clients", "newuidmap": "uidmap"}
SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"
ENDS_WITHIN_S = 20.0


@dataclass(frozen=True)
class PlainUser:
    """`home`: short, for the path of a unix socket ends at 107 bytes. `readable`: what it must be able to read."""

    home: Path
    uid: int
    readable: tuple[Path, ...]

    def run(self, *argv: str, timeout_s: float, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command, with nothing of our environment; what it prints is one text."""
        environ = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "PATH": f"{Path(sys.executable).parent}:{SBIN}",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(ROOT),
        } | variables
        return subprocess.run(
            [*self._become(), *argv],
            env=environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _become(self) -> list[str]:
        if self.uid == os.geteuid():
            return []
        become = ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups"]
        script = f'{_opened(self.readable)}\nexec {shlex.join(become)} -- "$@"'
        return ["unshare", "--mount", "--propagation", "private", "bash", "-euc", script, "as-a-plain-user"]

    def processes(self) -> dict[int, str]:
        """Its processes that are alive: pid -> command."""
        return dict(self._processes())

    def _processes(self) -> Iterator[tuple[int, str]]:
        ours = f"HOME={self.home}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and int(folder.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if any(word.startswith(ours) for word in (folder / "environ").read_bytes().split(b"\0")):
                        yield int(folder.name), (folder / "cmdline").read_bytes().decode().replace("\0", " ")

    def end(self) -> None:
        """End what is left of it: libvirtd ends when nobody asked it for a while, and we do not wait for that."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        number = signal.SIGTERM
        while left := self.processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            assert time.monotonic() < deadline, f"do not end: {left}"
            time.sleep(0.2)
            number = signal.SIGKILL if time.monotonic() > deadline - ENDS_WITHIN_S / 2 else signal.SIGTERM


def _opened(paths: tuple[Path, ...]) -> str:
    """Shell that shows these folders, and nothing else, where a folder above them is closed to others."""
    hidden = {path: above for path in paths if (above := _closed_above(path)) is not None}
    lines = ["mount -t tmpfs tmpfs /mnt"] if hidden else []
    for number, path in enumerate(hidden):
        lines.append(f"mkdir /mnt/{number} && mount --bind {shlex.quote(str(path))} /mnt/{number}")
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(above))}" for above in sorted(set(hidden.values()))]
    for number, path in enumerate(hidden):
        lines.append(f"mkdir -p {shlex.quote(str(path))} && mount --bind /mnt/{number} {shlex.quote(str(path))}")
    return "\n".join(lines)


def _closed_above(path: Path) -> Path | None:
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)


@contextlib.contextmanager
def plain_user(*readable: Path) -> Iterator[PlainUser]:
    """One with an empty home. Fails, naming the command, where something is not installed."""
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=SBIN) is None})
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}; run: scripts/setup.sh test")
    uid = os.geteuid()
    if uid == 0:
        try:
            uid = pwd.getpwnam(USER).pw_uid
        except KeyError:
            pytest.fail(f"there is no user {USER}; run: scripts/setup.sh test")
    home = Path(tempfile.mkdtemp(prefix="sb", dir="/tmp"))
    needed = (Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT, *readable)
    made = PlainUser(home, uid, needed)
    try:
        (home / "run").mkdir(mode=0o700)
        for folder in (home, home / "run"):
            os.chown(folder, uid, uid if os.geteuid() == 0 else -1)
        yield made
    finally:
        made.end()
        shutil.rmtree(home, ignore_errors=True)
