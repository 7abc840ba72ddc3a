"""Which processes the demo ends, and which it never touches."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.world.processes import MARK, Processes
from engine.domain.errors import Unavailable

SLEEP = ["sleep", "300"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    kept = Processes(tmp_path / "processes")
    yield kept
    kept.stop()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stop_ends_every_child_and_leaves_no_record(processes: Processes, tmp_path: Path) -> None:
    child = processes.spawn("one", SLEEP, log=tmp_path / "log")
    assert list(processes.ours()) == [child.pid]

    processes.stop()

    assert child.returncode == -signal.SIGTERM
    assert processes.ours() == {}
    assert list((tmp_path / "processes").iterdir()) == []


def test_a_child_that_ignores_term_is_killed(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.world.processes.GRACE_S", 0.3)
    child = processes.spawn("deaf", ["sh", "-c", "trap '' TERM; echo ready; sleep 300"], log=tmp_path / "log")
    until(lambda: "ready" in (tmp_path / "log").read_text())

    processes.stop()

    assert child.returncode == -signal.SIGKILL
    assert processes.ours() == {}


def test_what_a_killed_demo_left_behind_is_found_and_ended(processes: Processes, tmp_path: Path) -> None:
    """The owner dies by SIGKILL; a child whose record it never wrote is found by its mark."""
    script = (
        "import sys, pathlib, time\n"
        "from demo.world.processes import Processes\n"
        "p = Processes(pathlib.Path(sys.argv[1]) / 'processes')\n"
        "for n in 'ab': p.spawn(n, ['sleep', '300'], log=pathlib.Path(sys.argv[1]) / 'log')\n"
        "(pathlib.Path(sys.argv[1]) / 'processes' / 'b.json').unlink()\n"
        "print('up', flush=True)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        owner.kill()
    assert len(processes.ours()) == 2

    assert len(processes.sweep()) == 2

    assert processes.ours() == {}


def test_a_pid_that_is_somebody_elses_by_now_is_never_signalled(
    processes: Processes, tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    """The record names a living process, but another start time: the number was used again."""
    record = {"name": "old", "pid": stranger.pid, "started": 1, "boot": _boot()}
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "old.json").write_text(json.dumps(record))

    assert processes.sweep() == ()
    assert stranger.poll() is None


def test_a_record_of_another_boot_or_half_a_record_proves_nothing(
    processes: Processes, tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    started = int(Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19])
    (tmp_path / "processes").mkdir()
    record = {"name": "old", "pid": stranger.pid, "started": started, "boot": "another"}
    (tmp_path / "processes" / "old.json").write_text(json.dumps(record))
    (tmp_path / "processes" / "half.json").write_text('{"name": "ha')

    assert processes.sweep() == ()
    assert stranger.poll() is None


def test_the_child_of_another_demos_folder_is_left_alone(processes: Processes, tmp_path: Path) -> None:
    """A longer path that begins with ours is another folder."""
    other = f"{tmp_path / 'processes'}-2"
    with subprocess.Popen(SLEEP, env={**os.environ, MARK: other}) as stranger:
        assert processes.sweep() == ()
        stranger.kill()


def test_children_do_not_inherit_what_we_know(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "a secret")
    child = processes.spawn("one", ["sh", "-c", "echo up; exec sleep 300"], log=tmp_path / "log")
    until(lambda: "up" in (tmp_path / "log").read_text())

    assert b"PLANTED" not in Path(f"/proc/{child.pid}/environ").read_bytes()


def test_a_missing_program_says_what_to_do(processes: Processes, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-program is not installed") as refused:
        processes.spawn("one", ["no-such-program"], log=tmp_path / "log")

    assert "make demo" in refused.value.remedy


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
