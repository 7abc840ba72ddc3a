"""Many commands over one channel, with the real guest agent and no VM: what a `Guest` gives, and how the task ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.domain.agent import Guest
from engine.domain.errors import BadInput, Unavailable
from engine.domain.ports import Ending, FileIn, Redactor, TaskResult, VmTask
from engine.runtime import attending, session
from engine.runtime.egress import Egress
from tests.plugins_vm import Plain
from tests.unit.runtime.local_agent import AGENT, LocalGuest

LIMIT = 10_000


class Bench:
    """Has VMs attended that are processes; every one is gone at the end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.guests: list[LocalGuest] = []

    def attend(
        self, work: Callable[[Guest], None], redactor: Redactor | None = None, agent: str = AGENT, **more: Any
    ) -> TaskResult:
        fields: dict[str, Any] = {"id": "t", "run_id": "r", "image": "step", "timeout_s": 30, "argv": ("false",)}
        task = VmTask(**(fields | more))
        session.check(task)
        egress = Egress(task.reaches, task.egress_limit)
        self.guests.append(LocalGuest(self.home, egress, agent))
        mask = redactor or Plain()
        body = attending.body(work, mask)
        return session.carry_out(
            self.guests[-1].channel, egress, task, mask, lambda _: None, boot_timeout_s=20, body=body
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "guest")
    yield made
    for guest in made.guests:
        guest.close()


def sh(guest: Guest, script: str, timeout_s: float = 20) -> tuple[int | None, str, str]:
    """Code, stdout and reason of a shell script."""
    result = guest.run(("sh", "-c", script), timeout_s, LIMIT)
    return result.code, result.stdout, result.reason


def test_several_commands_run_in_one_vm_and_what_they_leave_comes_back(bench: Bench) -> None:
    """The task's own command is not run: it would have failed."""
    seen: list[object] = []

    def work(guest: Guest) -> None:
        seen.append(sh(guest, "echo one; cat ../step/given; exit 3"))
        seen.append(sh(guest, f"echo two > {bench.home}/step/out/two"))
        seen.append(sh(guest, "kill -9 $$"))
        seen.append(guest.run(("/no/such/program",), 20, LIMIT).code)
        seen.append(sh(guest, "echo $GREETING"))

    given = FileIn(path="/step/given", content=b"given\n")
    result = bench.attend(work, files=(given,), env={"GREETING": "hello"}, collect="/step/out")

    assert seen == [(3, "one\ngiven\n", ""), (0, "", ""), (None, "", "ended by signal 9"), None, (0, "hello\n", "")]
    assert (result.ending, result.code, result.reason, result.stdout) == (Ending.EXITED, 0, "", "")
    assert result.files == {"two": b"two\n"}
    assert list(result.received) == ["/step/given"]


def test_a_program_that_is_not_there_is_told_and_costs_nothing_more(bench: Bench) -> None:
    said: list[str] = []

    def work(guest: Guest) -> None:
        said.append(guest.run(("/no/such/program",), 20, LIMIT).reason)
        with pytest.raises(BadInput):
            guest.run((), 20, LIMIT)
        with pytest.raises(BadInput):
            guest.run(("a\0b",), 20, LIMIT)

    assert bench.attend(work).ending is Ending.EXITED
    assert said[0].startswith("the command could not be started: ")


def test_what_a_command_leaves_running_ends_with_it(bench: Bench) -> None:
    """Nothing works unseen between two calls."""

    def work(guest: Guest) -> None:
        assert sh(guest, f"(sleep 2; touch {bench.home}/late) & exit 0")[0] == 0
        assert sh(guest, "sleep 2.5")[0] == 0

    assert bench.attend(work).ending is Ending.EXITED
    assert not (bench.home / "late").exists()


def test_a_command_that_does_not_end_in_time_leaves_the_vm_usable(bench: Bench) -> None:
    seen: list[object] = []

    def work(guest: Guest) -> None:
        seen.append(sh(guest, "echo before; sleep 60", 0.5))
        seen.append(sh(guest, "echo after"))

    result = bench.attend(work)
    assert seen == [(None, "before\n", "no end within 0 s"), (0, "after\n", "")]
    assert (result.ending, result.reason) == (Ending.EXITED, "")


def test_a_vm_that_does_not_obey_a_kill_is_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clearly: no other command runs beside the one that goes on."""
    monkeypatch.setattr(session, "GRACE_S", 0.2)
    deaf = AGENT.replace("agent.Agent(", "agent.Agent._kill = lambda *_: None\nagent.Agent(")

    def work(guest: Guest) -> None:
        with pytest.raises(Unavailable):
            guest.run(("sleep", "20"), 0.3, LIMIT)
        guest.run(("true",), 5, LIMIT)

    result = bench.attend(work, agent=deaf)
    assert (result.ending, result.code) == (Ending.VM_LOST, None)
    assert "did not obey" in result.reason


def test_the_time_of_the_task_holds_over_all_of_the_work(bench: Bench) -> None:
    """Whether a command runs when it is over, or nobody asks anything of the VM, or nobody does again."""

    def busy(guest: Guest) -> None:
        while True:
            guest.run(("sleep", "0.1"), 20, LIMIT)

    def thinking(guest: Guest) -> None:
        threading.Event().wait(1.5)

    def stuck(guest: Guest) -> None:
        guest.run(("sleep", "60"), 90, LIMIT)

    for work in (busy, thinking, stuck):
        result = bench.attend(work, timeout_s=1, collect="/step/out")
        assert (result.ending, result.code, result.reason) == (Ending.TIMED_OUT, None, "no end within 1 s"), work


def test_a_cancel_ends_a_running_command_at_once(bench: Bench) -> None:
    begun = time.monotonic()

    def work(guest: Guest) -> None:
        threading.Timer(0.5, bench.guests[-1].channel.ended, ["cancelled"]).start()
        guest.run(("sleep", "60"), 90, LIMIT)

    result = bench.attend(work)
    assert (result.ending, result.reason) == (Ending.VM_LOST, "cancelled")
    assert time.monotonic() - begun < 10


def test_a_vm_that_dies_is_lost_even_if_the_work_does_not_mind(bench: Bench) -> None:
    def work(guest: Guest) -> None:
        with pytest.raises(Unavailable):
            sh(guest, "kill -9 $PPID; sleep 10")

    assert bench.attend(work, collect="/step/out").ending is Ending.VM_LOST


def test_what_the_work_itself_raises_is_raised(bench: Bench) -> None:
    """Also an Unavailable of something else; the line is closed all the same."""

    def fails(_: Guest) -> None:
        raise Unavailable("no model")

    def is_broken(_: Guest) -> None:
        raise ZeroDivisionError

    with pytest.raises(Unavailable, match="no model"):
        bench.attend(fails)
    with pytest.raises(ZeroDivisionError):
        bench.attend(is_broken)
    assert all(guest.channel.is_over for guest in bench.guests)


def test_a_guest_is_gone_when_its_work_has_returned(bench: Bench) -> None:
    kept: list[Guest] = []
    assert bench.attend(kept.append).ending is Ending.EXITED
    with pytest.raises(Unavailable):
        kept[0].run(("true",), 5, LIMIT)


def test_each_output_has_its_own_limit(bench: Bench) -> None:
    def work(guest: Guest) -> None:
        result = guest.run(("sh", "-c", "yes | head -c 300000; yes err | head -c 100 >&2"), 20, 1000)
        assert (len(result.stdout), len(result.stderr), result.truncated, result.code) == (1000, 100, True, 0)
        assert guest.run(("printf", "x"), 20, 1000).truncated is False

    assert bench.attend(work).ending is Ending.EXITED


def test_a_limit_that_a_command_met_is_said_with_it_and_does_not_end_the_step(bench: Bench) -> None:
    meets = AGENT.replace(
        "agent.Agent(wire", "Harmless.exceeded = lambda self: ['memory', 'everything']\nagent.Agent(wire"
    )

    def work(guest: Guest) -> None:
        assert sh(guest, "exit 3") == (3, "", "it met its limit of memory: 384 MB")

    result = bench.attend(work, agent=meets)
    assert (result.ending, result.reason) == (Ending.EXITED, "")


def test_files_are_written_over_what_was_there_and_read_as_they_are(bench: Bench) -> None:
    path, content = f"{bench.home}/new/deep er/file", bytes(range(256)) * 1000

    def work(guest: Guest) -> None:
        guest.write(path, b"first, and longer than what follows it" * 10_000)
        guest.write(path, content)
        assert guest.read(path, len(content)) == content
        with pytest.raises(BadInput, match="longer than 1000 bytes"):
            guest.read(path, 1000)
        guest.write(path, b"")
        assert guest.read(path, 0) == b""

    assert bench.attend(work).ending is Ending.EXITED
    assert Path(path).stat().st_mode & 0o777 == 0o644


def test_a_link_is_replaced_never_written_through_and_never_read(bench: Bench) -> None:
    other = bench.home / "other"

    def work(guest: Guest) -> None:
        other.write_text("of somebody else")
        (bench.home / "link").symlink_to(other)
        with pytest.raises(BadInput, match="symbolic link"):
            guest.read(f"{bench.home}/link", LIMIT)
        guest.write(f"{bench.home}/link", b"new")

    assert bench.attend(work).ending is Ending.EXITED
    assert other.read_text() == "of somebody else"
    assert not (bench.home / "link").is_symlink()


def test_what_is_no_file_is_refused_with_the_guests_reason(bench: Bench) -> None:
    """And nothing waits for a pipe."""

    def work(guest: Guest) -> None:
        assert sh(guest, f"mkfifo {bench.home}/pipe; mkdir {bench.home}/folder")[0] == 0
        for name, why in {"pipe": "no regular file", "folder": "no regular file", "nothing": "no such file"}.items():
            with pytest.raises(BadInput, match=why):
                guest.read(f"{bench.home}/{name}", LIMIT)
        for path in ("relative", "/a/../b", "/a\0b", "/"):
            with pytest.raises(BadInput):
                guest.read(path, LIMIT)
            with pytest.raises(BadInput):
                guest.write(path, b"")
        with pytest.raises(BadInput, match="directory"):
            guest.write(f"{bench.home}/folder", b"x" * 1_000_000)
        assert sh(guest, "echo well") == (0, "well\n", "")

    assert bench.attend(work).ending is Ending.EXITED


def test_a_file_that_arrives_changed_is_refused(bench: Bench) -> None:
    """The guest's own hash is compared."""

    def work(guest: Guest) -> None:
        guest.write(f"{bench.home}/bin/sha256sum", b"#!/bin/sh\necho 0000\n")
        sh(guest, f"chmod +x {bench.home}/bin/sha256sum")
        with pytest.raises(BadInput, match="did not arrive"):
            guest.write(f"{bench.home}/x", b"x")

    with_path = {"PATH": f"{bench.home}/bin:/usr/bin:/bin"}
    assert bench.attend(work, env=with_path).ending is Ending.EXITED


class Masking:
    """Masks one word, whole texts at a time."""

    def __init__(self) -> None:
        self._held = ""

    def __call__(self, text: str) -> str:
        return text.replace("hunter2", "***")

    def stream(self) -> Masking:
        return Masking()

    def feed(self, chunk: str) -> str:
        self._held += chunk
        return ""

    def close(self) -> str:
        return self(self._held)


def test_what_a_command_prints_is_redacted(bench: Bench) -> None:
    def work(guest: Guest) -> None:
        result = guest.run(("sh", "-c", "printf hunt; sleep 0.3; printf er2; echo hunter2 >&2"), 20, LIMIT)
        assert (result.stdout, result.stderr) == ("***", "***\n")
        with pytest.raises(BadInput, match=r"\*\*\*"):
            guest.read("/no/hunter2", LIMIT)

    assert bench.attend(work, Masking()).ending is Ending.EXITED
