"""Programs with root inside a VM try everything that the threat model lists. Each fails, for the reason that it should.

What they do stands in `tests/integration/runtime/escapes`; here is the host's side: what must have come of each, what
is on record of it, and that this process and the next task are none the worse. Steps never run as root: that of these
VMs do is an image that is made here and only here. With ESCAPES_REPORT=PATH the table of all attempts is written.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.domain.ports import Ending, TaskResult
from engine.runtime import cpio, session
from engine.runtime.guest import agent
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.escapes_report import Row, write
from tests.integration.runtime.escapes_scene import LEAVER, MARKER, OWNER, Scene, Server
from tests.integration.runtime.harness import Background, domains, task
from tests.plugins_vm import URI, Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

AS_USER = 'return {"user": UID, "group": UID, "extra_groups": []}'
KEXEC = r"Exec format error \(1\); memory: Operation not permitted \(1\); Bad address \(1\)"
PATIENCE = 5
MOST_MB = 150  # that this process may grow by, whatever they do
AT_ONCE = 256

UNREACHED = r"(Network is unreachable|Cannot assign requested address|Address family not supported)[^;]*"
OWN_LOOPBACK = r"Connection refused"
STOPPED: dict[str, str] = {
    # network
    "the host's loopback port": rf"{OWN_LOOPBACK} \(4\)|{OWN_LOOPBACK} \(3\); Cannot assign requested address \(1\)",
    "the host's own addresses": rf"{UNREACHED}",
    "gateways": r"Network is unreachable \(28\)",
    "other VMs": r"Network is unreachable \(8\); Network is unreachable \(3\)",
    "metadata services": r"Network is unreachable \(15\)",
    "metadata services over IPv6": rf"({UNREACHED}(; )?)+",
    "IPv6": rf"({UNREACHED}(; )?)+",
    "the internet": r"Network is unreachable \(8\)",
    "DNS over UDP": r"Network is unreachable \(\d\); Connection refused \(2\).*",
    "DNS over TCP": r"Network is unreachable \(6\); Connection refused \(4\)",
    "names": r"(Temporary failure in name resolution|Name or service not known)[^;]*(; .*)?",
    "raw sockets": r"Network is unreachable.*",
    "packet sockets": r"there is no interface but lo.*",
    "new interfaces": r".*(Unknown device type|[Nn]ot supported).*; tun: No such device.*",
    "other families of sockets": r"Address family not supported by protocol \(\d+\).*",
    "drivers of its own": r"0 modules in the image; rubbish: Exec format error \(1\)",
    "routes through loopback": r"Connection refused \(2\); timed out \(1\)",
    # the proxy and the port
    "CONNECT to what is not declared": r"HTTP/1.1 403 Forbidden \(\d+\)(; HTTP/1.1 400 Bad Request \(\d+\))?",
    "absolute URIs": r"HTTP/1.1 40[03] [A-Za-z ]+ \(\d+\); HTTP/1.1 40[03] [A-Za-z ]+ \(\d+\)",
    "requests that are none": r"HTTP/1.1 40[03] [^;]*(; [^;]*)*; no end: .*",
    "another Host than the target": "only the declared service answered",
    "smuggled requests": "only the declared service answered; only the declared service answered",
    "the port itself": r"Device or resource busy \(3\)",
    "connections asked for past the proxy": r"9 frames sent; .*",
    "frames of other streams": r"sent; this attempt goes on .*",
    # the machine
    "the base image, written": r"Operation not permitted \(3\)",
    "the base image, made writable": r".*; then (Operation not permitted|Permission denied) \(1\)",
    "the base image, mounted": r".*(Device or resource busy|Read-only file system|Permission denied).*",
    "folders of the host": r"No such device \(12\)",
    "devices": r"only bridges, a disk, the port, a random source: .*",
    "hot plug": "nothing new appears",
    "QEMU's back doors": r"[1-9]\d* items of firmware, nothing of a step or of the host in them; nobody .*",
    "what the host says to the kernel": r"[1-9]\d+ places read: nothing .*",
    "another step's files": r"[1-9]\d+ files and the whole disk read: nothing",
    "another step's memory": r"[3-9]\d\d MB searched: nothing",
    "signals to the agent": r"PID 1 goes on \([SRD]\)",
    "another kernel": KEXEC,
    "the clock": r"this VM believes 2099.*",
    # the plain user
    "becoming root": r"Operation not permitted \(1\); .*",
    "what is root's": r"Permission denied \(1[01]\).*",
    "the agent as a plain user": r"Operation not permitted \(\d\).*",
    "root in a namespace of its own": r"no user namespaces|the disk cannot be mounted \(1\); .*",
}


@dataclass(frozen=True)
class Bomb:
    """What breaks its own VM, and how the step may end by that."""

    tried: str
    endings: tuple[Ending, ...]
    reason: str
    timeout_s: float = 30
    code: int | None = None


TIMED_OUT, LOST, SIGNALLED, EXITED = Ending.TIMED_OUT, Ending.VM_LOST, Ending.SIGNALLED, Ending.EXITED
NO_END = r"no end within \d+ s(, and the VM did not obey a kill)?"
GONE = "the VM is gone"
KILLED = "ended by signal 9"
MET = r"(; it met its limit of (memory|processes|disk): [^;]+)*"
""" What the guest's kernel counted is said beside how it ended. """
BOMBS: dict[str, Bomb] = {
    "fork bomb": Bomb("fork without end, each child in a session of its own", (TIMED_OUT,), NO_END, 6),
    "memory bomb": Bomb("take memory without end", (SIGNALLED, LOST, TIMED_OUT), f"{KILLED}|{GONE}|{NO_END}", 20),
    "disk bomb": Bomb("fill every file system", (TIMED_OUT, SIGNALLED, LOST), f"{NO_END}|{KILLED}|{GONE}", 8),
    "endless output": Bomb("print 10 GB", (TIMED_OUT,), NO_END, 6),
    "many connections": Bomb("open 10,000 connections by the proxy", (EXITED,), "", 60, 0),
    "many connection frames": Bomb("ask for 10,000 connections past the proxy", (EXITED,), "", 30, 0),
    "stuck connections": Bomb("256 connections to somebody who never reads, all full; then end", (EXITED,), "", 30, 0),
    "rubbish": Bomb("random bytes on the channel", (LOST,), r"the guest (announced|sent|ignored|granted) .*"),
    "huge frame": Bomb("announce a frame of 4 GB", (LOST,), r"the guest announced a frame of 4294967295 bytes"),
    "forged credit": Bomb("grant the host 2 GB of credit", (LOST,), "the guest granted more than it was sent"),
    "ignored window": Bomb("output past the agent", (LOST, TIMED_OUT), rf"the guest ignored the flow .*|{NO_END}", 6),
    "answers without end": Bomb("answers that nobody asked for", (LOST,), "the guest ignored the flow control .*"),
    "data without end": Bomb("bytes of a wrong kind on the command's stream, past its time", (TIMED_OUT,), NO_END, 6),
    "forged end": Bomb("say that the command exited with 0", (EXITED,), "", 30, 0),
    "two ends": Bomb("say that it exited and died by a signal", (LOST,), "the guest told no sensible end .*"),
    "agent overwritten": Bomb("zeros over the code of PID 1", (LOST, TIMED_OUT), f"{GONE}|{NO_END}", 6),
    "agent interrupted": Bomb("SIGINT to PID 1", (LOST,), GONE),
    "agent frozen": Bomb("freeze PID 1 in a cgroup", (TIMED_OUT,), NO_END, 6),
    "processor taken": Bomb("real-time priority, unthrottled, for ever", (TIMED_OUT,), NO_END, 6),
    "reboot": Bomb("reboot(2): restart", (LOST,), GONE),
    "power off": Bomb("reboot(2): power off", (LOST,), GONE),
    "halt": Bomb("reboot(2): halt", (TIMED_OUT, LOST), f"{NO_END}|{GONE}", 6),
    "crash": Bomb("crash the kernel (sysrq c)", (LOST,), GONE),
    "suspend": Bomb("suspend to memory and to disk", (TIMED_OUT, LOST), f"{NO_END}|{GONE}", 6),
}


@pytest.fixture(scope="module")
def root_image(vm_images: Path) -> Iterator[str]:
    """The `step` image, but its agent starts commands as root: for these tests only, gone after them."""
    plain = Path(agent.__file__).read_text()
    changed = plain.replace(AS_USER, "return {}")
    assert changed != plain
    folder = vm_images / OWNER
    folder.mkdir(mode=0o755)
    for part in ("vmlinuz", "rootfs.erofs"):
        os.link(vm_images / "step" / part, folder / part)
    ours = cpio.archive({"agent/engine/runtime/guest/agent.py": cpio.Member(changed.encode())})
    (folder / "initrd.img").write_bytes((vm_images / "step" / "initrd.img").read_bytes() + ours)
    yield folder.name
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.fixture(scope="module")
def scene(root_image: str, vm_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two VMs with markers have been here when it begins: one is gone, one stays until the end."""
    templates = tmp_path_factory.mktemp("templates")
    hypervisor = LibvirtHypervisor(URI, vm_images, OWNER, "tcg", "tests", warm=2, templates=templates)
    service, sink = Server("127.0.0.1", b"the declared service"), Server("127.0.0.1", None)
    canary = Server("0.0.0.0", b"the canary")  # noqa: S104 - whoever finds a way is to be heard
    made = Scene(hypervisor, root_image, service, sink, canary)
    leave = ("python3", "-c", LEAVER, *MARKER, str(canary.port))
    try:
        gone = hypervisor.run(task(*leave, "0", image=root_image), Plain(), print)
        assert gone.code == 0, gone
        neighbour = Background(hypervisor, task(*leave, "600", image=root_image, timeout_s=600))
        neighbour.wait_for("ready")
        yield made
        assert hypervisor.destroy(neighbour.task.id)
        assert neighbour.end().ending is Ending.CANCELLED, "the neighbour lived through all of it"
    finally:
        hypervisor.close()
        for server in (service, sink, canary):
            server.close()
        assert hypervisor.sweep() == ()
    write(ROWS)


ROWS: list[Row] = []


@pytest.fixture(scope="module")
def explored(scene: Scene) -> tuple[dict[str, Row], TaskResult]:
    """What the programs told that leave their VM whole, and what the host recorded of the first."""
    as_root = scene.run("proxy", "machine", "network")
    as_user = scene.run("user", image="step")
    for result in (as_root, as_user):
        assert (result.ending, result.code, result.reason) == (Ending.EXITED, 0, ""), (
            result.reason,
            result.stdout,
            result.stderr,
        )
    lines = (as_root.stdout + as_user.stdout).splitlines()
    rows = {row.name: row for row in (Row(**json.loads(line)) for line in lines)}
    ROWS.extend(rows.values())
    return rows, as_root


@pytest.fixture(scope="module")
def bombed(scene: Scene) -> dict[str, tuple[TaskResult, int]]:
    """How each step ended that broke its VM, and by how many MB this process grew meanwhile. Two at a time."""

    def burst(name: str) -> tuple[TaskResult, int]:
        before = resident_mb()
        for patience in (1, PATIENCE):  # on a busy machine Python alone may need the whole time
            result = scene.run(f"bombs '{name}'", timeout_s=patience * BOMBS[name].timeout_s)
            if result.stdout:
                break
        return result, resident_mb() - before

    with ThreadPoolExecutor(2) as both, pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "GRACE_S", 1.0)
        results = dict(zip(BOMBS, both.map(burst, BOMBS), strict=True))
    ROWS.extend(Row(name, BOMBS[name].tried, in_words(result), escaped=False) for name, (result, _) in results.items())
    return results


def in_words(result: TaskResult) -> str:
    """How a step ended, as its run is told."""
    said = f"{result.ending}: {result.reason}" if result.reason else f"{result.ending} with {result.code}"
    cut = "; its output was cut" if result.truncated else ""
    count = len(result.connections)
    return f"{said}{cut}" + (f"; {count} rows of connections on record" if count else "")


def resident_mb() -> int:
    """The memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.mark.parametrize("name", STOPPED)
def test_an_attempt_fails_for_the_right_reason(explored: tuple[dict[str, Row], TaskResult], name: str) -> None:
    """As root, and as the user that steps are."""
    row = explored[0][name]
    assert not row.escaped, row.happened
    assert re.fullmatch(STOPPED[name], row.happened), row.happened


def test_every_attempt_is_judged(explored: tuple[dict[str, Row], TaskResult]) -> None:
    """None is made that this file expects nothing of."""
    assert set(explored[0]) == set(STOPPED)


def test_what_reached_the_host_is_on_record(explored: tuple[dict[str, Row], TaskResult], scene: Scene) -> None:
    """Requests to the proxy and frames past it: refused, with where to. What is no name is called so."""
    _, result = explored
    refused = {(row.host, row.port) for row in result.connections if not row.allowed}
    canary, service = scene.canary.port, scene.service.port
    assert {
        ("127.0.0.1", canary),
        ("127.0.0.1", service),
        ("localhost", canary),
        ("169.254.169.254", 80),
        ("example.org", 443),
        ("service.test", 8081),
        ("(malformed)", 8080),
        ("", 8080),
    } <= refused | {("", 8080)}
    assert all(row.error == "not declared for this step" for row in result.connections if not row.allowed)
    allowed = {(row.host, row.port) for row in result.connections if row.allowed}
    assert allowed == {("service.test", 8080)}


@pytest.mark.parametrize("name", BOMBS)
def test_a_broken_vm_ends_its_step_with_a_clear_reason(bombed: dict[str, tuple[TaskResult, int]], name: str) -> None:
    """And this process neither dies nor grows."""
    result, grown_mb = bombed[name]
    bomb = BOMBS[name]
    assert result.stdout.startswith("begun\n"), result
    assert result.ending in bomb.endings, (result.ending, result.code, result.reason, result.stderr)
    assert re.fullmatch(f"({bomb.reason}){MET}", result.reason), result
    assert result.code == bomb.code
    assert result.seconds < PATIENCE * bomb.timeout_s + 60
    assert grown_mb < MOST_MB


def test_output_is_cut_and_connections_are_counted(bombed: dict[str, tuple[TaskResult, int]], scene: Scene) -> None:
    """A megabyte of ten thousand; of ten thousand connections no more than fit at once, the others on record."""
    output, _ = bombed["endless output"]
    assert output.truncated
    assert len(output.stdout) == 1 << 20
    assert "afterwards: HTTP/1.1 200 OK" in bombed["many connections"][0].stdout
    rows = bombed["many connection frames"][0].connections
    assert {row.error for row in rows} >= {"too many connections at once"}
    flood = [row for row in rows if row.error == "too many connections at once"]
    assert len(flood) == 1
    assert flood[0].count > 1000
    assert 0 < scene.service.most <= 2 * AT_ONCE


def test_nobody_was_heard_where_nobody_may_be(
    explored: tuple[dict[str, Row], TaskResult],
    bombed: dict[str, tuple[TaskResult, int]],
    scene: Scene,
    vm_images: Path,
) -> None:
    """The host's other port never heard of any VM; its image is what it was; another task works at once."""
    del explored, bombed
    assert scene.canary.asked == 0
    plain, ours = (scene.hypervisor.image_digest(name) for name in ("step", scene.image))
    assert plain != ours
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=vm_images / "step", check=False)
    assert sums.returncode == 0
    after = scene.hypervisor.run(task("echo alive"), Plain(), print)
    assert (after.ending, after.stdout) == (Ending.EXITED, "alive\n")
    left = {name for name in domains() if OWNER in name}
    assert left == set()
