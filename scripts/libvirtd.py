#!/usr/bin/env python3
"""Make sure that libvirtd runs: `libvirtd.py start|stop|status --state DIR`. For the Makefile, the demo and the tests.

Where systemd runs, it does it. Where no init system runs (containers, CI), this starts libvirtd and virtlogd as root
under a sub-reaper: libvirt waits for a destroyed QEMU to leave the process table, and a PID 1 that reaps slowly (or
never) makes every destroy take seconds. `stop` ends only what `start` started. Standard library only: no venv needed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import grp
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SOCKETS = {"libvirtd": Path("/run/libvirt/libvirt-sock"), "virtlogd": Path("/run/libvirt/virtlogd-sock")}
LOCK = Path("/run/signalbox-libvirtd.lock")
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
DEADLINE_S = 30.0


def answers(daemon: str) -> bool:
    """Whether something listens on the daemon's socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(SOCKETS[daemon]))
        except OSError:
            return False
    return True


def start(state: Path) -> str:
    """Start libvirtd unless it answers; returns what was done. Raises SystemExit with a remedy."""
    if answers("libvirtd"):
        return "libvirtd is running already"
    for program in SOCKETS:
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin") is None:
            raise SystemExit(f"{program} is not installed; run: apt-get install libvirt-daemon-system")
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "libvirtd"], check=True, timeout=60)
    elif os.geteuid() != 0:
        raise SystemExit("no init system runs here: start libvirtd as root: sudo scripts/libvirtd.py start")
    else:
        with LOCK.open("w") as lock:  # two suites that start at the same time start one libvirtd
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not answers("libvirtd"):
                _start_reaper(state)
            _wait(state)
    _wait(state)
    return "libvirtd started"


def _wait(state: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not answers("libvirtd"):
        if time.monotonic() > deadline:
            raise SystemExit(f"libvirtd does not answer; see {state / 'libvirtd.log'}")
        time.sleep(0.05)


def _start_reaper(state: Path) -> None:
    state.mkdir(parents=True, exist_ok=True)
    with (state / "libvirtd.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, __file__, "reap", "--state", str(state)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


def reap(state: Path) -> None:
    """The sub-reaper: parent of the daemons, collector of every QEMU that they leave. Ends with libvirtd."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    Path("/run/libvirt").mkdir(parents=True, exist_ok=True)
    _open_kvm()
    pids = {daemon: _spawn(daemon, state) for daemon in ("virtlogd", "libvirtd") if not answers(daemon)}
    while pids.get("libvirtd"):
        pid, _ = os.wait()
        if pid == pids["libvirtd"]:
            return


def _open_kvm() -> None:
    """Give /dev/kvm to group kvm, as udev would.

    Left to root alone it makes libvirt probe QEMU anew for each VM (20 s): the probe sees KVM, QEMU's user does not.
    """
    device = Path("/dev/kvm")
    with contextlib.suppress(OSError, KeyError):
        if device.stat().st_mode & 0o077 == 0:
            os.chown(device, 0, grp.getgrnam("kvm").gr_gid)
            device.chmod(0o660)


def _spawn(daemon: str, state: Path) -> int:
    # A pid file of our own, and no idle timeout: it ends when we say so.
    program = shutil.which(daemon, path="/usr/sbin:/usr/bin:/sbin") or daemon
    process = subprocess.Popen([program, "-p", f"/run/{daemon}.signalbox.pid"])
    (state / f"{daemon}.started").write_text(f"{process.pid} {_birth(process.pid)}\n")
    return process.pid


def _birth(pid: int) -> str:
    """Start time of a process in clock ticks (proc(5), stat field 22): with the pid, its identity. Empty when gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def stop(state: Path) -> str:
    """End what `start` started here; returns what was done."""
    stopped = [daemon for daemon in ("libvirtd", "virtlogd") if _stop(state / f"{daemon}.started")]
    return f"stopped {', '.join(stopped)}" if stopped else "nothing of ours to stop"


def _stop(mark: Path) -> bool:
    try:
        pid, birth = mark.read_text().split()
    except (OSError, ValueError):
        return False
    mark.unlink()
    if _birth(int(pid)) != birth:
        return False
    os.kill(int(pid), signal.SIGTERM)
    deadline = time.monotonic() + DEADLINE_S
    while _birth(int(pid)) == birth:
        if time.monotonic() > deadline:
            os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)
    return True


def main() -> int:
    """Exit 0 when done; `status` exits 1 when libvirtd does not answer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["start", "stop", "status", "reap"])
    parser.add_argument(
        "--state", type=Path, default=Path(".signalbox/libvirt"), help="folder for pid marks and the log"
    )
    arguments = parser.parse_args()
    state = arguments.state.absolute()
    match arguments.command:
        case "start":
            print(start(state))
        case "stop":
            print(stop(state))
        case "reap":
            reap(state)
        case "status":
            print("libvirtd answers" if answers("libvirtd") else "libvirtd does not answer")
            return 0 if answers("libvirtd") else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
