"""A step in a real VM that tries to exceed each of its limits: it ends with their names, and the next step is fine.

Most of these VMs wait in a pool, as clones, before anybody knows the limits: only memory and processors are of their
make. Those that ask for another make are booted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.domain.ports import Ending, FileIn, Reach, TaskResult
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, eventually, task, virsh
from tests.plugins_vm import URI, Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

MEMORY_BOMB = """
held = []
while True: held.append(bytearray(b"x" * (8 << 20)))
"""
FORK_BOMB = """
import os, time
while True:
    try:
        if os.fork() == 0: time.sleep(300); os._exit(0)
    except OSError as error: raise SystemExit("no more processes: %s" % error.strerror)
"""
THREADS = """
import threading, time
while True: threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
"""
# everywhere where a step may write, small files and a large one
DISK_BOMB = """
import os
written = 0
for folder, size in (("/tmp", 1 << 20), ("/step", 1 << 20), ("/dev/shm", 1 << 20), ("/tmp/small", 4096)):
    os.makedirs(folder, exist_ok=True)
    try:
        for number in range(100000):
            with open("%s/%d" % (folder, number), "wb") as file: written += file.write(b"x" * size)
    except OSError as error: print(folder, error.strerror, flush=True)
print(written >> 20)
raise SystemExit(1)
"""
DOWNLOAD = """
import socket
got = 0
for number in range(3):
    try:
        s = socket.create_connection(("source.test", 80))
        while data := s.recv(65536): got += len(data)
        print("ended")
    except OSError as error: print(error.strerror)
print(got)
"""


@pytest.fixture(scope="module")
def hypervisor(vm_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHypervisor]:
    made = LibvirtHypervisor(
        URI, vm_images, f"limits-{os.getpid()}", "tcg", warm=1, templates=tmp_path_factory.mktemp("templates")
    )
    made.keep_warm()
    eventually(made.warm, 120, "a VM waits")
    yield made
    made.close()
    assert not made.sweep()


def run(hypervisor: LibvirtHypervisor, *argv: str, **limits: Any) -> TaskResult:
    """A step in a VM of its own; after it another one is fine, whatever this one did."""
    result = hypervisor.run(task(*argv, **limits), Plain(), lambda _: None)
    after = hypervisor.run(task("echo fine"), Plain(), lambda _: None)
    assert (after.ending, after.stdout) == (Ending.EXITED, "fine\n")
    return result


def python(program: str) -> tuple[str, ...]:
    return ("python3", "-c", program)


def test_memory(hypervisor: LibvirtHypervisor) -> None:
    """The kernel kills the step, never the agent: the end is seen, with its name."""
    result = run(hypervisor, *python(MEMORY_BOMB), memory_mb=256, timeout_s=120)
    assert (result.ending, result.code) == (Ending.SIGNALLED, None)
    assert result.reason == "ended by signal 9; it met its limit of memory: 256 MB"


@pytest.mark.parametrize("bomb", [FORK_BOMB, THREADS], ids=["processes", "threads"])
def test_processes(hypervisor: LibvirtHypervisor, bomb: str) -> None:
    result = run(hypervisor, *python(bomb), processes=40, timeout_s=120)
    assert (result.ending, result.code) == (Ending.EXITED, 1)
    assert result.reason == "it met its limit of processes: 40 at once"


def test_a_fork_bomb_that_never_gives_up_is_timed_out(hypervisor: LibvirtHypervisor) -> None:
    """All that it started is counted from its first moment, and dies with it."""
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    result = run(hypervisor, *python(bomb), processes=64, timeout_s=10)
    assert result.ending is Ending.TIMED_OUT
    assert result.reason == "no end within 10 s; it met its limit of processes: 64 at once"


def test_disk(hypervisor: LibvirtHypervisor) -> None:
    """One limit for all folders together, and for the root under them."""
    result = run(hypervisor, *python(DISK_BOMB), disk_mb=40, timeout_s=120)
    assert (result.ending, result.code, result.reason) == (Ending.EXITED, 1, "it met its limit of disk: 40 MB")
    *full, written = result.stdout.split("\n")[:-1]
    assert [line.partition(" ")[2] for line in full] == ["No space left on device"] * 4
    assert 30 <= int(written) <= 40


def test_disk_without_a_number_is_half_of_the_memory(hypervisor: LibvirtHypervisor) -> None:
    """So a step that fills it leaves the VM able to say so."""
    result = run(hypervisor, *python(DISK_BOMB), memory_mb=256, timeout_s=120)
    assert (result.code, result.reason) == (1, "it met its limit of disk: half of its memory")
    assert int(result.stdout.split()[-1]) <= 128


def test_files_that_do_not_fit_are_no_step(hypervisor: LibvirtHypervisor) -> None:
    """The limit is there before the first of them is put."""
    work = task("true", disk_mb=8)
    big = dataclasses.replace(work, files=(FileIn(path="/step/big", content=bytes(9 << 20)),))
    result = hypervisor.run(big, Plain(), lambda _: None)
    assert result.ending is Ending.NOT_BEGUN
    assert "No space left on device" in result.reason


def test_output(hypervisor: LibvirtHypervisor) -> None:
    """A flood is cut on its way, in the memory of this machine as well."""
    result = run(hypervisor, "head -c 30000000 /dev/zero | tr '\\0' x; echo end >&2", output_limit=5000, timeout_s=120)
    assert (result.ending, result.code) == (Ending.EXITED, 0)
    assert (len(result.stdout), result.truncated, result.stderr) == (5000, True, "end\n")


def test_wall_time(hypervisor: LibvirtHypervisor) -> None:
    result = run(hypervisor, "trap '' TERM; while :; do sleep 1; done", timeout_s=3)
    assert (result.ending, result.reason) == (Ending.TIMED_OUT, "no end within 3 s")


@pytest.fixture
def source() -> Iterator[Reach]:
    """A server on the host that sends without end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_send, args=(server,), daemon=True).start()
        yield Reach(host="source.test", port=80, address="127.0.0.1", address_port=server.getsockname()[1])


def _send(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_flood, args=(connection,), daemon=True).start()


def _flood(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while True:
            connection.sendall(b"x" * 65536)


def test_egress(hypervisor: LibvirtHypervisor, source: Reach) -> None:
    """The connection breaks, no other is made, the record says so; the step did not finish, though it exits with 0."""
    result = run(hypervisor, *python(DOWNLOAD), reaches=(source,), egress_limit=2 << 20, timeout_s=120)
    assert (result.ending, result.code, result.reason) == (Ending.EXITED, 0, "it met its limit of egress: 2 MB")
    *told, got = result.stdout.split("\n")[:-1]
    assert told == ["Connection reset by peer"] * 3
    assert int(got) <= 2 << 20
    cut, refused = result.connections
    assert (cut.allowed, cut.error) == (True, "the step's limit is met (egress: 2 MB)")
    assert (2 << 20) - 65536 < cut.bytes_up + cut.bytes_down <= 2 << 20
    assert (refused.allowed, refused.count, refused.error) == (False, 2, "the step's limit is met (egress: 2 MB)")


def test_vcpus(hypervisor: LibvirtHypervisor) -> None:
    """As many as it asked for, and no more."""
    assert [run(hypervisor, "nproc", vcpus=count).stdout for count in (1, 3)] == ["1\n", "3\n"]


def test_cpu_percent(hypervisor: LibvirtHypervisor) -> None:
    """Held to a fifth of a processor, QEMU's own threads included. Only the step: booting is not held up."""
    if not URI.endswith("system"):
        held = hypervisor.run(task("echo fine", cpu_percent=20), Plain(), print)
        assert (held.stdout, hypervisor.holds_cpu) == ("fine\n", False)  # doctor says so
        return
    work = Background(hypervisor, task("echo begun; while :; do :; done", cpu_percent=20, timeout_s=60))
    work.wait_for("begun")
    (vm,) = [found.uuid for found in hypervisor._host.marked() if found.mark.task == work.task.id]
    used, begun = _cpu_seconds(vm), time.monotonic()
    eventually(lambda: time.monotonic() - begun > 5, 10, "five seconds of work")
    share = (_cpu_seconds(vm) - used) / (time.monotonic() - begun)
    hypervisor.destroy(work.task.id)
    assert work.end().ending is Ending.CANCELLED
    assert hypervisor.holds_cpu
    assert share < 0.3


def _cpu_seconds(vm: str) -> float:
    """What the VM has used of the host's processors."""
    told = virsh("domstats", "--cpu-total", vm)
    return int(re.search(r"cpu\.time=(\d+)", told)[1]) / 1e9  # type: ignore[index]
