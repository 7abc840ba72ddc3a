"""Whole tasks against the real guest agent, without a VM: what the host asks and what it makes of the answers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import BadInput
from engine.domain.ports import Ending, FileIn, Reach, Redactor, SecretValue, TaskResult, VmTask
from engine.runtime import session
from engine.runtime.channel import digest_of
from engine.runtime.egress import Egress
from tests.plugins_vm import Plain
from tests.unit.runtime.local_agent import AGENT, LocalGuest


def task(*argv: str, **more: Any) -> VmTask:
    """A task; one word is a shell script."""
    fields: dict[str, Any] = {"id": "t", "run_id": "r", "image": "step", "timeout_s": 30}
    return VmTask(**(fields | {"argv": argv if len(argv) > 1 else ("sh", "-c", argv[0])} | more))


class Bench:
    """Carries out tasks; every guest is gone at the end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.guests: list[LocalGuest] = []

    def guest(self, work: VmTask, agent: str = AGENT) -> tuple[LocalGuest, Egress]:
        egress = Egress(work.reaches, work.egress_limit)
        guest = LocalGuest(self.home, egress, agent)
        self.guests.append(guest)
        return guest, egress

    def run(self, work: VmTask, redactor: Redactor | None = None, agent: str = AGENT) -> TaskResult:
        session.check(work)
        guest, egress = self.guest(work, agent)
        return session.carry_out(guest.channel, egress, work, redactor or Plain(), lambda _: None, boot_timeout_s=20)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "guest")
    yield made
    for guest in made.guests:
        guest.close()


def test_files_input_environment_output_and_artefact_cross(bench: Bench) -> None:
    """One task with everything."""
    big = bytes(range(256)) * 1000
    script = f"""cat; echo "$A"; echo err >&2; cd {bench.home}/step; cat run/secret 2>/dev/null
        mkdir -p out/deep; cp big out/deep/; ln -s /etc/passwd out/link; : > out/empty; exit 7"""
    result = bench.run(
        task(
            script,
            stdin=b"in " * 200_000,
            env={"A": "b"},
            files=(FileIn(path="/step/big", content=big, mode=0o640),),
            secrets=(SecretValue(name="key", value="v"),),
            collect="/step/out",
        )
    )
    assert (result.ending, result.code, result.reason) == (Ending.EXITED, 7, "")
    assert result.stdout == "in " * 200_000 + "b\n"
    assert result.stderr == "err\n"
    assert result.files == {"deep/big": big, "empty": b""}
    assert result.received == {"/step/big": digest_of(big)}
    assert (bench.home / "step/big").stat().st_mode & 0o777 == 0o640
    assert (bench.home / "run/secrets/key").stat().st_mode & 0o777 == 0o400


def test_a_file_that_arrives_changed_is_not_run(bench: Bench) -> None:
    """The guest's own hash is compared before the command is sent."""
    lying = AGENT.replace(
        "agent.Agent(", "s = agent.hashlib.sha256\nagent.hashlib.sha256 = lambda data: s(data + b'!')\nagent.Agent("
    )
    work = task(f"touch {bench.home}/ran", files=(FileIn(path="/step/x", content=b"x"),))
    result = bench.run(work, agent=lying)
    assert (result.ending, result.reason) == (Ending.NOT_BEGUN, "/step/x did not arrive as it was sent")
    assert not (bench.home / "ran").exists()


def test_a_signal_a_missing_program_and_a_timeout_are_told_apart(bench: Bench) -> None:
    """Three endings."""
    killed = bench.run(task("kill -9 $$"))
    assert (killed.ending, killed.code, killed.reason) == (Ending.SIGNALLED, None, "ended by signal 9")
    missing = bench.run(task("/no/such", "x"))
    assert (missing.ending, missing.code) == (Ending.NOT_BEGUN, None)
    slow = bench.run(task("echo before; sleep 60", timeout_s=0.5))
    assert (slow.ending, slow.code, slow.stdout) == (Ending.TIMED_OUT, None, "before\n")


def test_a_command_that_ignores_every_signal_is_timed_out_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent does not obey: the session gives up, and its caller destroys the VM."""
    monkeypatch.setattr(session, "GRACE_S", 0.2)
    deaf = AGENT.replace("agent.Agent(", "agent.Agent._kill = lambda *_: None\nagent.Agent(")
    result = bench.run(task("exec sleep 20", timeout_s=0.3), agent=deaf)
    assert (result.ending, result.code) == (Ending.TIMED_OUT, None)
    assert "did not obey" in result.reason


def test_output_is_cut_at_the_limit_of_each_stream(bench: Bench) -> None:
    """And the command still reaches its end."""
    result = bench.run(task("yes | head -c 2000000; echo end >&2", output_limit=1000))
    assert (len(result.stdout), result.truncated, result.stderr, result.code) == (1000, True, "end\n", 0)


MEETS = "agent.Agent(wire"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (["disk", "memory"], "it met its limit of memory: 384 MB; it met its limit of disk: 9 MB"),
        (["processes"], "it met its limit of processes: 7 at once"),
        (["everything", {}, 7], ""),
        ("memory", ""),
        (None, ""),
    ],
)
def test_what_the_guest_says_of_its_limits_is_told_in_our_own_words(bench: Bench, told: object, reason: str) -> None:
    """It names them, no more: the guest's text could say anything."""
    meets = AGENT.replace(MEETS, f"Harmless.exceeded = lambda self: {told!r}\n{MEETS}")
    result = bench.run(task("exit 3", processes=7, disk_mb=9), agent=meets)
    assert (result.ending, result.code, result.reason) == (Ending.EXITED, 3, reason)


def test_limits_are_sent_before_the_first_file(bench: Bench) -> None:
    """So that what is put there counts."""
    notes = AGENT.replace(
        MEETS, f"Harmless.limit = lambda self, **limits: (self.root / 'limits').write_text(str(limits))\n{MEETS}"
    )
    result = bench.run(task("cat ../limits", processes=7, disk_mb=9), agent=notes)
    assert result.stdout == "{'processes': 7, 'disk_mb': 9}"


def test_too_many_collected_bytes_are_no_result(bench: Bench) -> None:
    """The exit code is known, the files are not there, and the reason says so."""
    result = bench.run(
        task(
            "cd $OUT; head -c 2000 /dev/zero > x",
            env={"OUT": f"{bench.home}/step/out"},
            collect="/step/out",
            collect_limit=1000,
        )
    )
    assert (result.ending, result.code, result.files) == (Ending.EXITED, 0, {})
    assert "more than" in result.reason


def test_secrets_are_masked_even_across_chunks_and_never_shown_half(bench: Bench) -> None:
    """The redactor sees one stream; at the output limit what it still holds back is dropped."""
    result = bench.run(task("printf hunt; sleep 0.3; printf 'er2 %s' abc; printf hunt", output_limit=13), Masking())
    assert result.stdout == "*** abc"
    whole = bench.run(task("printf hunt; sleep 0.3; printf 'er2 hunt'"), Masking())
    assert whole.stdout == "*** hunt"


class Masking:
    """Masks `hunter2` and holds back what could become it."""

    def __init__(self) -> None:
        self._held = ""

    def __call__(self, text: str) -> str:
        return text.replace("hunter2", "***")

    def stream(self) -> Masking:
        return Masking()

    def feed(self, chunk: str) -> str:
        text = self(self._held + chunk)
        keep = max((n for n in range(1, 7) if text.endswith("hunter2"[:n])), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def close(self) -> str:
        held, self._held = self._held, ""
        return held


def test_a_guest_that_dies_before_the_command_began_changed_nothing(bench: Bench) -> None:
    """NOT_BEGUN, with a reason."""
    stillborn = "import sys; sys.exit(1)"
    result = bench.run(task("true"), agent=stillborn)
    assert (result.ending, result.reason) == (Ending.NOT_BEGUN, "the VM is gone")


def test_a_guest_that_dies_under_the_command_is_lost(bench: Bench) -> None:
    """Nobody knows how far it came."""
    work = task("kill -9 $PPID; sleep 10")
    result = bench.run(work)
    assert (result.ending, result.code, result.reason) == (Ending.VM_LOST, None, "the VM is gone")


def test_cancelling_wakes_the_session_at_once(bench: Bench) -> None:
    """From another thread; the guest ends with the line."""
    guest, egress = bench.guest(work := task("sleep 60"))
    threading.Timer(1.0, guest.channel.ended, ["cancelled"]).start()
    begun = time.monotonic()
    result = session.carry_out(guest.channel, egress, work, Plain(), lambda _: None, boot_timeout_s=20)
    assert result.ending in {Ending.VM_LOST, Ending.NOT_BEGUN}
    assert result.reason == "cancelled"
    assert time.monotonic() - begun < 10
    guest.transport.close()
    assert guest.process.wait(10) == 0


def test_an_agent_with_nothing_to_do_does_nothing(bench: Bench) -> None:
    """It waits for events: no thread of it wakes up to look."""
    guest, _ = bench.guest(task("true"))
    guest.channel.hello(20)
    guest.channel.ping(20)
    before = _wake_ups(guest.process.pid)
    threading.Event().wait(0.5)
    assert _wake_ups(guest.process.pid) - before <= 3


def _wake_ups(pid: int) -> int:
    lines = [
        line for task in Path(f"/proc/{pid}/task").iterdir() for line in (task / "status").read_text().splitlines()
    ]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))


def test_an_agent_of_another_version_asks_for_a_new_image(bench: Bench) -> None:
    """Nothing is tried with it."""
    old = AGENT.replace("agent.Agent(", "agent.VERSION = 0\nagent.Agent(")
    result = bench.run(task("true"), agent=old)
    assert (result.ending, "rebuild the image" in result.reason) == (Ending.NOT_BEGUN, True)


def test_a_changing_command_goes_on_without_its_host_and_then_the_vm_ends(bench: Bench) -> None:
    """outlives_worker: the line is cut, the command finishes although nobody reads it, the VM powers off."""
    done = bench.home / "done"
    guest, egress = bench.guest(
        work := task(f"echo ready; sleep 1; yes | head -c 2000000; touch {done}", outlives_worker=True)
    )
    heard = threading.Event()
    caller = threading.Thread(
        target=session.carry_out,
        args=(guest.channel, egress, work, Plain(), lambda _: heard.set()),
        kwargs={"boot_timeout_s": 20},
    )
    caller.start()
    assert heard.wait(20)
    guest.transport.close()
    caller.join(10)
    assert guest.process.wait(20) == 0
    assert done.exists()


def test_a_reading_command_dies_with_its_host(bench: Bench) -> None:
    """The guest ends itself as soon as the line is cut."""
    done = bench.home / "done"
    guest, egress = bench.guest(work := task(f"echo ready; sleep 2; touch {done}"))
    heard = threading.Event()
    caller = threading.Thread(
        target=session.carry_out,
        args=(guest.channel, egress, work, Plain(), lambda _: heard.set()),
        kwargs={"boot_timeout_s": 20},
    )
    caller.start()
    assert heard.wait(20)
    begun = time.monotonic()
    guest.transport.close()
    caller.join(10)
    assert guest.process.wait(20) == 0
    assert time.monotonic() - begun < 1.9
    assert not done.exists()


def test_egress_reaches_what_is_declared_with_half_close_and_refuses_the_rest(bench: Bench) -> None:
    """Through the guest's listener on 127.77.0.1, as a program in the VM would."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_upper_case, args=(server,), daemon=True).start()
        port = _free_port("127.77.0.1")
        program = f"""
import socket
s = socket.create_connection(("127.77.0.1", {port})); s.sendall(b"hello " * 100000); s.shutdown(socket.SHUT_WR)
print(len(b"".join(iter(lambda: s.recv(65536), b""))))
"""
        reach = Reach(host="up.test", port=port, address="127.0.0.1", address_port=server.getsockname()[1])
        result = bench.run(task("python3", "-c", program, reaches=(reach,)))
    assert (result.stdout, result.stderr) == ("600000\n", "")
    (row,) = result.connections
    assert (row.host, row.port, row.allowed, row.bytes_up, row.bytes_down) == ("up.test", port, True, 600000, 600000)


def test_more_bytes_than_the_limit_never_cross_and_the_program_sees_a_break(bench: Bench) -> None:
    """Not an end: half an answer must not be taken for a whole one. The rest of the record is there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_endless, args=(server,), daemon=True).start()
        port = _free_port("127.77.0.1")
        program = f"""
import socket
got = 0
try:
    s = socket.create_connection(("127.77.0.1", {port}))
    while data := s.recv(65536): got += len(data)
    print("ended", got)
except OSError as error: print(error.strerror, got)
try: socket.create_connection(("127.77.0.1", {port})).recv(1)
except OSError as error: print(error.strerror)
"""
        reach = Reach(host="much.test", port=port, address="127.0.0.1", address_port=server.getsockname()[1])
        result = bench.run(task("python3", "-c", program, reaches=(reach,), egress_limit=1 << 20))
    broke, again = result.stdout.splitlines()
    assert broke.startswith("Connection reset by peer ")
    assert int(broke.split()[-1]) <= 1 << 20
    assert again == "Connection reset by peer"
    assert (result.code, result.reason) == (0, "it met its limit of egress: 1 MB")
    cut, refused = result.connections
    assert (1 << 20) - 65536 < cut.bytes_down <= 1 << 20
    assert (cut.allowed, cut.error) == (True, "the step's limit is met (egress: 1 MB)")
    assert (refused.allowed, refused.error) == (False, "the step's limit is met (egress: 1 MB)")


def test_a_connection_that_the_far_end_breaks_is_broken_for_the_program_too(bench: Bench) -> None:
    """Seen in a review: a reset arrived as a clean end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_breaking, args=(server,), daemon=True).start()
        port = _free_port("127.77.0.1")
        program = f"""
import socket
s = socket.create_connection(("127.77.0.1", {port}))
try:
    while data := s.recv(65536): print(data.decode())
    print("ended")
except OSError as error: print(error.strerror)
"""
        reach = Reach(host="bad.test", port=port, address="127.0.0.1", address_port=server.getsockname()[1])
        result = bench.run(task("python3", "-c", program, reaches=(reach,)))
    assert result.stdout.splitlines()[-1] == "Connection reset by peer"
    assert "reset" in result.connections[0].error


def _endless(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        while True:
            connection.sendall(b"x" * 65536)


def _breaking(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"half")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _upper_case(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        data = b"".join(iter(lambda: connection.recv(65536), b""))
        connection.sendall(data.upper())


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../up"},
        {"run_id": ""},
        {"argv": ()},
        {"argv": ("a\0b",)},
        {"files": (FileIn(path="relative", content=b""),)},
        {"files": (FileIn(path="/step/../etc/passwd", content=b""),)},
        {"secrets": (SecretValue(name="../x", value=""),)},
        {"collect": "step/out"},
    ],
)
def test_a_task_that_could_not_be_carried_out_as_written_is_refused_before_any_vm(change: dict[str, Any]) -> None:
    """Odd ids, commands, paths and names."""
    with pytest.raises(BadInput):
        session.check(task("true", **change))
