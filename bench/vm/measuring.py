"""Measuring: in rounds, all ways in turn, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.vm import ways
from bench.vm.ways import Fleet, Stopwatch, task
from engine.domain.ports import Reach
from engine.runtime.domain_xml import WAITING
from engine.runtime.frames import Kind
from engine.runtime.hypervisor import BOOT_TIMEOUT_S, USUAL_MEMORY_MB
from engine.runtime.machine import Machine
from engine.runtime.output import NoSecrets

RAW, LIBVIRT, COLD, CLONE, POOL = "raw QEMU", "libvirt alone", "cold boot", "empty pool, clone", "warm pool"
POOL_OF = 4
AT_ONCE = (1, 4, 8)
TRIPS = 200
BULK_MB = 32

Say = Callable[[str], None]


@dataclass(slots=True)
class Figures:
    """Seconds, bytes a second, MB."""

    starts: dict[str, list[float]] = field(default_factory=dict)
    at_once: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)
    trips_s: dict[str, list[float]] = field(default_factory=dict)
    bytes_a_second: dict[str, float] = field(default_factory=dict)


def measured(fleet: Fleet, images: Path, *, kvm: bool, runs: int, repeats: int, say: Say) -> Figures:
    """Everything."""
    figures = Figures()
    in_turn: tuple[tuple[str, Callable[[], float]], ...] = (
        (RAW, lambda: ways.raw_qemu(images, kvm=kvm)),
        (LIBVIRT, lambda: ways.libvirt_alone(fleet.cold)),
        (COLD, lambda: ways.ours(fleet.cold)),
        (CLONE, lambda: ways.ours(fleet.cloning)),
        (POOL, lambda: _from_the_pool(fleet)),
    )
    for number in range(runs):
        for name, way in in_turn:
            figures.starts.setdefault(name, []).append(way())
        last = ", ".join(f"{name} {seconds[-1]:.2f}" for name, seconds in figures.starts.items())
        say(f"round {number + 1} of {runs}: {last}")
    for count in AT_ONCE:
        for _ in range(repeats):
            fleet.settle(POOL_OF)
            figures.at_once.setdefault((POOL, count), []).extend(_together(count, lambda: ways.ours(fleet.pooled)))
            figures.at_once.setdefault((CLONE, count), []).extend(_together(count, lambda: ways.ours(fleet.cloning)))
        say(f"{count} at once: " + _shown(figures.at_once[POOL, count]))
    figures.memory_mb = dict(_memory(fleet, images, kvm=kvm))
    figures.trips_s = dict(_trips(fleet))
    figures.bytes_a_second = dict(_bulk(fleet))
    return figures


def _from_the_pool(fleet: Fleet) -> float:
    fleet.settle(1)
    seconds = ways.ours(fleet.pooled)
    fleet.settle(1)  # what it does to fill up again must not fall on who comes next
    return seconds


def _together(count: int, way: Callable[[], float]) -> list[float]:
    taken: list[float] = []
    threads = [threading.Thread(target=lambda: taken.append(way())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(taken) != count:
        raise RuntimeError(f"only {len(taken)} of {count} were served")
    return taken


def _shown(seconds: Sequence[float]) -> str:
    return " ".join(f"{one:.2f}" for one in sorted(seconds))


# -- memory


def _memory(fleet: Fleet, images: Path, *, kvm: bool) -> Iterator[tuple[str, float]]:
    """Anonymous memory of QEMU: what a VM takes that it shares with nobody."""
    with ways.raw(images, kvm=kvm) as channel:
        channel.hello(BOOT_TIMEOUT_S)
        yield RAW, _anonymous_mb("bench-vm-")
    fleet.settle(1)
    yield POOL, _anonymous_mb("guest=signalbox-waiting-")
    for name, hypervisor in ((COLD, fleet.cold), (CLONE, fleet.cloning)):
        found: list[float] = []
        work = task(argv=("sh", "-c", "echo ran; sleep 1"))
        hypervisor.run(
            work,
            NoSecrets(),
            lambda _, found=found, work=work: found.append(_anonymous_mb(work.id)),  # type: ignore[misc]
        )
        yield name, found[0]


def _anonymous_mb(word: str) -> float:
    """Of the newest QEMU whose arguments hold this word."""
    found = 0.0
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if word in (argv := (entry / "cmdline").read_text()) and "qemu" in argv.split("\0")[0]:
                lines = (entry / "smaps_rollup").read_text().splitlines()
                found = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Anonymous:"))
        except OSError:
            continue
    return found


# -- round trips and bytes


@contextmanager
def _machine(fleet: Fleet) -> Iterator[Machine]:
    hypervisor = fleet.cold
    make = hypervisor._workshop.make("step", USUAL_MEMORY_MB, kvm=bool(hypervisor._kvm), outlives_worker=False)
    machine = hypervisor._workshop.fresh(make, hypervisor._workshop.mark("bench-trips", WAITING))
    try:
        machine.channel.hello(BOOT_TIMEOUT_S)
        machine.channel.set_up(lifetime_s=600, dies_alone=True)
        yield machine
    finally:
        machine.end()


def _trips(fleet: Fleet) -> Iterator[tuple[str, list[float]]]:
    """There and back: a frame and a command of a VM; a line through a pipe and a command of this machine."""
    with _machine(fleet) as machine:
        yield "a frame to the VM and back", _timed(TRIPS, lambda: machine.channel.ping(60))
        yield "a command in the VM", _timed(TRIPS // 4, lambda: _command(machine))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as cat:
        assert cat.stdin is not None  # noqa: S101 - it was asked for
        assert cat.stdout is not None  # noqa: S101
        end, back = cat.stdin, cat.stdout

        def there_and_back() -> None:
            end.write(b"line\n")
            back.readline()

        yield "a line through a pipe to a local process and back", _timed(TRIPS, there_and_back)
        end.close()
    yield "a command of this machine", _timed(TRIPS // 4, lambda: subprocess.run(["true"], check=True))


def _timed(times: int, act: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begun)
    return taken


def _command(machine: Machine) -> None:
    stream = machine.channel.open()
    machine.channel.execute(stream, ("true",), {}, ())
    machine.channel.end_of_input(stream)
    while stream.answer(60).kind != Kind.EXIT:
        pass
    machine.channel.forget(stream)


def _bulk(fleet: Fleet) -> Iterator[tuple[str, float]]:
    """Out of a VM by its standard output, into it by its standard input, in by a connection; and a local pipe."""
    size = BULK_MB << 20
    with _machine(fleet) as machine:
        yield "out, standard output", size / _poured_out(machine, size)
        yield "in, standard input", size / _poured_in(machine, size)
    with _source(size) as reach:
        watch = Stopwatch()
        script = "curl -so /dev/null -w '%{speed_download} %{size_download}' http://source:80/"
        result = fleet.cold.run(task(argv=("sh", "-c", script), reaches=(reach,)), NoSecrets(), watch.heard)
        speed, got = result.stdout.split()
        if int(got) != size:
            raise RuntimeError(f"{got} of {size} bytes came by the egress path: {result.stderr}")
        yield "in, egress path (curl)", float(speed)
    begun = time.perf_counter()
    subprocess.run(f"head -c {size} /dev/zero | cat", shell=True, stdout=subprocess.PIPE, check=True)  # noqa: S602 - ours
    yield "a local pipe", size / (time.perf_counter() - begun)


def _poured_out(machine: Machine, size: int) -> float:
    stream, got = machine.channel.open(), 0
    begun = time.perf_counter()
    machine.channel.execute(stream, ("head", "-c", str(size), "/dev/zero"), {}, ())
    machine.channel.end_of_input(stream)
    while (frame := stream.answer(120)).kind != Kind.EXIT:
        got += len(frame.payload)
        stream.acknowledge(frame)
    if got != size:
        raise RuntimeError(f"{got} of {size} bytes came out")
    return time.perf_counter() - begun


def _poured_in(machine: Machine, size: int) -> float:
    stream = machine.channel.open()
    begun = time.perf_counter()
    machine.channel.execute(stream, ("sh", "-c", f"test $(wc -c) = {size}"), {}, ())
    stream.push(Kind.STDIN, bytes(size))
    machine.channel.end_of_input(stream)
    while (frame := stream.answer(120)).kind != Kind.EXIT:
        pass
    if b'"code": 0' not in frame.payload:
        raise RuntimeError("not every byte went in")
    return time.perf_counter() - begun


@contextmanager
def _source(size: int) -> Iterator[Reach]:
    """A web server on loopback that gives so many bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                connection.sendall(bytes(size))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Reach(host="source", port=80, address="127.0.0.1", address_port=listener.getsockname()[1])
        thread.join(60)
