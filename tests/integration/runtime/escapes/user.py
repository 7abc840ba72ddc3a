"""What a step can do that is the plain user which it is in earnest: become root, or reach what is root's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.integration.runtime.escapes.attempt import LIBC, Escaped, attempt, call, each


@attempt("becoming root", "setuid, su, sudo, programs with the s bit or capabilities, a core pattern")
def become_root() -> str:
    bits = subprocess.run(["find", "/", "-xdev", "-perm", "/6000", "-type", "f"], capture_output=True, check=False)
    if bits.stdout:
        raise Escaped(f"programs with the s bit: {bits.stdout.decode()}")

    def by(way: str) -> str:
        if way == "setuid":
            os.setuid(0)
        elif way == "a core pattern":
            Path("/proc/sys/kernel/core_pattern").write_text("|/step/x")
        else:
            done = subprocess.run(way.split(), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
            if done.returncode:
                raise OSError(0, done.stderr.strip()[-60:])
        return "root"

    return each(("setuid", "su -c id", "a core pattern"), by)


@attempt("what is root's", "the agent's memory, code and port, the disk, the kernel's memory and its triggers")
def roots() -> str:
    node = next(Path("/sys/class/virtio-ports").iterdir()).name
    ways = ("/proc/1/mem", "/proc/1/environ", f"/dev/{node}", "/dev/vda", "/dev/mem", "/proc/kcore", "/dev/console")
    writes = ("/run/signalbox/engine/runtime/guest/agent.py", "/etc/passwd", "/etc/hosts", "/proc/sysrq-trigger")

    def opened(way: tuple[str, int]) -> str:
        os.close(os.open(*way))
        return "opened"

    return each([*((way, os.O_RDONLY) for way in ways), *((way, os.O_WRONLY) for way in writes)], opened)


@attempt("the agent as a plain user", "kill, ptrace, pidfd_getfd of PID 1; reboot; setting the clock")
def agent() -> str:
    def way(name: str) -> object:
        if name == "kill":
            os.kill(1, signal.SIGKILL)
            return "killed"
        if name == "ptrace":
            return call(101, 16, 1, 0, 0)
        if name == "pidfd_getfd":
            return call(438, call(434, 1, 0), 3, 0)
        if name == "reboot":
            return call(169, 0xFEE1DEAD, 672274793, 0x1234567, 0)
        return call(227, 0, bytes(16))

    return each(("kill", "ptrace", "pidfd_getfd", "reboot", "clock"), way)


@attempt(
    "root in a namespace of its own", "unshare a user namespace, then mount the disk, make interfaces, raw sockets"
)
def namespace() -> str:
    if LIBC.unshare(0x10000000 | 0x40000000 | 0x00020000) != 0:
        return "no user namespaces"
    Path("/proc/self/uid_map").write_text("0 1000 1")

    def way(name: str) -> str:
        if name == "mount":
            if LIBC.mount(b"/dev/vda", b"/step", b"erofs", 0, b"") != 0:
                raise OSError(0, "the disk cannot be mounted")
        elif name == "raw socket":
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) as bare:
                bare.sendto(b"\x08\x00\xf7\xff", ("10.0.2.2", 0))
        else:
            os.close(os.open("/proc/1/mem", os.O_RDWR))
        return "done"

    return each(("mount", "raw socket", "memory of the agent"), way)
