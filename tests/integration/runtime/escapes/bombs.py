"""What breaks the VM that it is done in: each of these gets one of its own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.runtime.escapes.attempt import LIBC, the_port

STDOUT, OK, OPEN, EXIT, DATA, WINDOW = 7, 14, 16, 9, 13, 18
OWN_STREAMS = range(1, 100, 2)  # one of them is the command's
MEGABYTE = 1 << 20
BOMBS: dict[str, Callable[[], None]] = {}


def bomb(function: Callable[[], None]) -> Callable[[], None]:
    """Register one, by its name in words."""
    BOMBS[function.__name__.replace("_", " ")] = function
    return function


def _frame(kind: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!BII", kind, stream, len(payload)) + payload


def _write(data: bytes, *, times: int = 1_000_000, pause: float = 0) -> None:
    """Write past the agent, then stay."""
    with the_port() as fd:
        for _ in range(times):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            time.sleep(pause)
    time.sleep(600)


@bomb
def fork_bomb() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while True:
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                os.setsid()


@bomb
def memory_bomb() -> None:
    kept = []
    while True:
        kept.append(b"x" * MEGABYTE)


@bomb
def disk_bomb() -> None:
    full = []
    for folder in ("/run", "/", "/tmp", "/step", "/dev/shm"):
        with contextlib.suppress(OSError), Path(folder, "filled").open("wb", buffering=0) as file:
            while file.write(b"x" * MEGABYTE) == MEGABYTE:
                pass
        full.append(folder)
    Path("/dev/kmsg").write_text(f"full: {full}")
    time.sleep(600)


@bomb
def endless_output() -> None:
    for _ in range(10_240):
        os.write(1, b"x" * MEGABYTE)


@bomb
def many_connections() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    opened = []
    with contextlib.suppress(OSError):
        for _ in range(10_000):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", 3128))
            with contextlib.suppress(OSError):
                connection.send(b"CONNECT service.test:8080 HTTP/1.1\r\n\r\n")
            opened.append(connection)
    time.sleep(2)
    for connection in opened:
        connection.close()
    with socket.create_connection(("127.0.0.1", 3128), timeout=30) as after:
        after.sendall(b"CONNECT service.test:8080 HTTP/1.1\r\n\r\n")
        os.write(1, b"afterwards: " + after.recv(100))


@bomb
def many_connection_frames() -> None:
    request = json.dumps({"host": "service.test", "port": 8080}).encode()
    with the_port() as fd:
        for number in range(10_000):
            os.write(fd, _frame(OPEN, 2_000_002 + 2 * number, request))
    time.sleep(1)
    os.write(1, b"10000 asked for\n")


@bomb
def stuck_connections() -> None:
    """256 connections to somebody who never reads, each with as much as its window lets through; then end."""
    request = json.dumps({"host": "sink.test", "port": 9}).encode()
    with the_port() as fd:
        for number in range(256):
            os.write(fd, _frame(OPEN, 2_000_002 + 2 * number, request))
        for _ in range(8):
            for number in range(256):
                os.write(fd, _frame(DATA, 2_000_002 + 2 * number, b"x" * 32_000))
            time.sleep(0.05)


@bomb
def rubbish() -> None:
    _write(os.urandom(65536))


@bomb
def huge_frame() -> None:
    _write(struct.pack("!BII", DATA, 1, 2**32 - 1), times=1)


@bomb
def forged_credit() -> None:
    _write(b"".join(_frame(WINDOW, number, struct.pack("!I", 2**31)) for number in OWN_STREAMS), times=1)


@bomb
def ignored_window() -> None:
    _write(b"".join(_frame(STDOUT, number, b"x" * 32_000) for number in OWN_STREAMS))


@bomb
def answers_without_end() -> None:
    _write(_frame(OK, 0, b"{" + b" " * 60_000 + b"}"))


@bomb
def data_without_end() -> None:
    """Bytes that nobody asked for on the command's own stream, slowly enough to stay in its window, past its time."""
    _write(b"".join(_frame(DATA, number, b"x" * 10) for number in OWN_STREAMS) * 20)


@bomb
def forged_end() -> None:
    _write(b"".join(_frame(EXIT, number, b'{"code": 0, "signal": null}') for number in OWN_STREAMS), times=1)


@bomb
def two_ends() -> None:
    _write(b"".join(_frame(EXIT, number, b'{"code": 0, "signal": 9}') for number in OWN_STREAMS), times=1)


@bomb
def agent_overwritten() -> None:
    """Zeros over the code of PID 1."""
    maps = [line.split() for line in Path("/proc/1/maps").read_text().splitlines() if "r-xp" in line and "/" in line]
    with Path("/proc/1/mem").open("rb+", buffering=0) as memory:
        for line in maps:
            begin, end = (int(number, 16) for number in line[0].split("-"))
            memory.seek(begin)
            with contextlib.suppress(OSError):
                memory.write(bytes(end - begin))
    time.sleep(600)


@bomb
def agent_interrupted() -> None:
    """The one signal that Python handles, and so the one that reaches PID 1."""
    os.kill(1, signal.SIGINT)
    time.sleep(600)


@bomb
def agent_frozen() -> None:
    group = Path("/sys/fs/cgroup")
    if not (group / "cgroup.procs").exists() and LIBC.mount(b"none", str(group).encode(), b"cgroup2", 0, b"") != 0:
        raise OSError(ctypes.get_errno(), "cgroup2 could not be mounted")
    (group / "frozen").mkdir()
    (group / "frozen" / "cgroup.procs").write_text("1")
    (group / "frozen" / "cgroup.freeze").write_text("1")
    time.sleep(600)


@bomb
def processor_taken() -> None:
    """Real-time priority and no throttling: nothing else runs any more."""
    Path("/proc/sys/kernel/sched_rt_runtime_us").write_text("-1")
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
    while True:
        pass


@bomb
def reboot() -> None:
    LIBC.reboot(0x1234567)


@bomb
def power_off() -> None:
    LIBC.reboot(0x4321FEDC)


@bomb
def halt() -> None:
    LIBC.reboot(ctypes.c_int(0xCDEF0123 - (1 << 32)))


@bomb
def crash() -> None:
    Path("/proc/sysrq-trigger").write_text("c")


@bomb
def suspend() -> None:
    for how in ("mem", "standby", "freeze", "disk"):
        with contextlib.suppress(OSError):
            Path("/sys/power/state").write_text(how)
    time.sleep(600)
