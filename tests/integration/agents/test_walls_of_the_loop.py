"""The loop's process in real bubblewrap, with a program of the test's in place of the loop: what it cannot reach, and
what becomes of it when it misbehaves. It is started as the loop is.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from engine.agents import child
from engine.agents.child import LoopEnded
from engine.agents.inside import wire
from engine.domain.errors import Unavailable

START = wire.Start(
    api="anthropic",
    model="m",
    token="token-of-the-step",
    socket="/nowhere",
    instructions="",
    user="",
    tools=[],
    finish=None,
    history=[],
    requests=1,
    tokens=1,
    calls=1,
)


class Place:
    """Where a test's program is run: `program` becomes the body of the loop's `main`."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "door" / "model.sock"
        self.inside = folder / "inside"
        for made in (self.socket.parent, self.inside):
            made.mkdir()
        (self.inside / "__init__.py").touch()
        self.stopped = False

    def hear(self, program: str, *, seconds: float = 30.0) -> wire.Said | wire.Call | wire.End:
        """Its first word. Raises LoopEnded as the loop's user would see it."""
        body = "\n".join(f"    {line}" for line in program.splitlines())
        head = "import json, os, socket, sys, time\n\ndef tell(value):\n"
        tell = "    print(json.dumps({'kind': 'end', 'output': value}), flush=True)\n\n"
        (self.inside / "main.py").write_text(f"{head}{tell}def main():\n    sys.stdin.readline()\n{body}\n")
        with child.running(self.socket, time.monotonic() + seconds, lambda: self.stopped, self.inside) as loop:
            loop.tell(START)
            return loop.hear()

    def output(self, program: str) -> object:
        """What it tells."""
        word = self.hear(program)
        assert isinstance(word, wire.End)
        return word.output


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# -- what it cannot reach ---------------------------------------------------------------------------------------------


def test_it_has_no_network(place: Place) -> None:
    """Only a loopback of its own, on which nobody listens; no name resolves."""
    program = """\
said = []
for address in (("1.1.1.1", 80), ("127.0.0.1", 22)):
    try:
        socket.create_connection(address, timeout=5)
        said.append("connected")
    except OSError as error:
        said.append(type(error).__name__)
tell([said, [name for _, name in socket.if_nameindex()]])"""

    assert place.output(program) == [["OSError", "ConnectionRefusedError"], ["lo"]]


def test_it_sees_no_file_of_ours(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No users, no home, no repository, no working folder of Signalbox, though that lie beside its program."""
    home = tmp_path / ".signalbox"
    home.mkdir()
    (home / "signalbox.db").write_text("secrets")
    repository = Path(__file__).parents[3]
    wanted = [home / "signalbox.db", Path.home() / ".bashrc", Path("/etc/passwd"), Path("/etc/hostname")]
    wanted += [repository / "pyproject.toml", repository / "engine" / "settings.py", Path("/var"), Path("/run")]
    assert any(path.exists() for path in wanted[:3])

    found = place.output(
        f"tell([path for path in {json.dumps([str(path) for path in wanted])} if os.path.exists(path)])"
    )

    assert found == []


def test_it_gets_no_environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the worker's, keys least of all."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-worker")

    environment = place.output("tell([sorted(os.environ), open('/proc/1/environ').read()])")

    assert environment == [["LC_CTYPE", "PWD"], ""]


def test_it_writes_nothing_but_a_small_tmp(place: Place) -> None:
    """Not into Python, its own program, the door's folder, nor beyond some megabytes."""
    program = f"""\
said = []
folders = ["/usr", "/", "/dev", "/dev/shm", "/signalbox", "/signalbox/inside", {str(place.socket.parent)!r}, sys.prefix]
for path in [folder + "/x" for folder in folders]:
    try:
        open(path, "w")
        said.append(path)
    except OSError:
        pass
try:
    for number in range(3):
        open("/tmp/%d" % number, "wb").write(bytes(8 << 20))
    said.append("much")
except OSError:
    pass
tell(said)"""

    assert place.output(program) == []


def test_it_is_nobody_and_alone(place: Place) -> None:
    """No capability, no process of the machine, no further user namespace."""
    program = """\
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
import ctypes
new_user = ctypes.CDLL(None).unshare(0x10000000)
pids = [name for name in os.listdir("/proc") if name.isdigit()]
tell([os.getuid(), int(status["CapEff"], 16), int(status["NoNewPrivs"]), len(pids) <= 3, new_user])"""

    assert place.output(program) == [65534, 0, 1, True, -1]


def test_it_starts_no_process_but_threads(place: Place) -> None:
    """Not as root either, for whom no limit of processes holds; and the kernel's odd corners are shut."""
    program = """\
import ctypes, subprocess, threading
said = []
true = "/usr/bin/true"
for start in (os.fork, lambda: subprocess.run([true]), lambda: os.posix_spawn(true, [true], {})):
    try:
        start()
        said.append("started")
    except OSError as error:
        said.append(error.errno)
thread = threading.Thread(target=lambda: said.append("thread"))
thread.start()
thread.join()
libc = ctypes.CDLL(None, use_errno=True)
for number in (101, 321, 425) if os.uname().machine == "x86_64" else (117, 280, 425):
    said.append([libc.syscall(number, 0, 0, 0), ctypes.get_errno()])
tell(said)"""

    assert place.output(program) == [1, 1, 1, "thread", [-1, 1], [-1, 1], [-1, 1]]


def test_its_memory_is_limited(place: Place) -> None:
    """And a limit that was set it cannot lift."""
    program = """\
import resource
said = []
try:
    bytearray(3 << 30)
    said.append("memory")
except MemoryError:
    pass
try:
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    said.append("lifted")
except (ValueError, OSError):
    pass
tell(said)"""

    assert place.output(program) == []


# -- what becomes of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("print('rubbish', flush=True)\ntime.sleep(60)", "broke the protocol"),
        ('print(\'{"kind": "shell"}\', flush=True)\ntime.sleep(60)', "broke the protocol"),
        ('print(\'{"kind": "end", "more": 1}\', flush=True)\ntime.sleep(60)', "broke the protocol"),
        ('print(\'{"kind": "call", "id": "a b", "tool": "run", "args": {}}\', flush=True)', "broke the protocol"),
        ("print('[' * 100000, flush=True)\ntime.sleep(60)", "broke the protocol"),
        ("sys.stdout.write('x' * (5 << 20))\ntime.sleep(60)", "a line that is too long"),
        ("sys.stdout.buffer.write(b'\\xff\\n')\nsys.stdout.flush()\ntime.sleep(60)", "broke the protocol"),
        ("os.kill(os.getpid(), 9)", "ended with code 137"),
        ("sys.exit('no model')", "ended with code 1: no model"),
    ],
)
def test_a_break_of_the_protocol_ends_it(place: Place, program: str, why: str) -> None:
    """At its first word, and the reason says what it was."""
    with pytest.raises(LoopEnded, match=why):
        place.hear(program)


def test_its_time_is_over_at_some_time(place: Place) -> None:
    """Though it fills its pipe of errors meanwhile."""
    with pytest.raises(LoopEnded, match="its time was over"):
        place.hear("while True:\n    sys.stderr.write('x' * 100000)", seconds=1.0)


def test_a_stop_ends_it(place: Place) -> None:
    """At the next tick."""
    place.stopped = True

    with pytest.raises(LoopEnded, match="it was stopped"):
        place.hear("time.sleep(60)")


def test_one_that_does_not_listen_is_ended(place: Place) -> None:
    """A line that it does not read blocks nobody."""
    (place.inside / "main.py").write_text("import time\n\ndef main():\n    time.sleep(60)\n")
    began = time.monotonic()

    with (
        child.running(place.socket, began + 2.0, lambda: False, place.inside) as loop,
        pytest.raises(LoopEnded, match="its time was over"),
    ):
        loop.tell(START.model_copy(update={"user": "x" * (1 << 20)}))


def test_it_is_dead_when_its_user_goes_on(place: Place) -> None:
    """Whatever it wanted to do yet: nobody holds the other end of its pipe."""
    (place.inside / "main.py").write_text(
        "import signal, time\n\ndef main():\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        '    print(\'{"kind": "end"}\', flush=True)\n    time.sleep(600)\n'
    )
    with child.running(place.socket, time.monotonic() + 30, lambda: False, place.inside) as loop:
        loop.hear()
        pipe = os.dup(loop._out.fileno())
    with os.fdopen(pipe, "rb") as left:
        os.set_blocking(left.fileno(), True)
        assert left.read() == b""


def test_without_bubblewrap_nothing_is_started(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no way around it, and the remedy is said."""
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(Unavailable, match="bubblewrap") as caught:
        place.hear("tell(1)")

    assert caught.value.remedy == "apt-get install bubblewrap"
