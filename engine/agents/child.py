"""The loop's process: started in bubblewrap, heard line by line, ended at the first break of the protocol.

It sees Python, the folder `inside` and the directory of the model proxy's socket, all read-only; no network, no
environment, no home, and it starts no other. It gets a token of the step, no key. It is hostile from its first line.
"""

from __future__ import annotations

import importlib.util
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from engine.agents import syscalls
from engine.agents.inside import wire
from engine.domain.errors import SignalboxError, Unavailable

INSIDE = Path(__file__).parent / "inside"
MEMORY = 2 << 30
FILE_SIZE = 16 << 20
PROCESSES = 32
OPEN_FILES = 64
CPU_S = 900
STDERR_KEPT = 2000
_TICK_S = 0.2
""" How often a stop is looked for while nothing is heard. """

_BOOT = f"""
import resource, sys
for limit, most in (
    (resource.RLIMIT_AS, {MEMORY}), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, {FILE_SIZE}),
    (resource.RLIMIT_NPROC, {PROCESSES}), (resource.RLIMIT_NOFILE, {OPEN_FILES}), (resource.RLIMIT_CPU, {CPU_S}),
):
    resource.setrlimit(limit, (most, most))
sys.path.insert(0, "/signalbox")
from inside.main import main
main()
"""


class LoopEnded(SignalboxError):
    """The loop's process is over before it said its end; the message says why."""


def command(socket: Path, inside: Path, filter_fd: int) -> tuple[str, ...]:
    """The argv that starts the loop's process. `filter_fd`: where the system call filter is read.

    Raises Unavailable: bubblewrap or the library is not installed.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise Unavailable("an agent's loop runs in bubblewrap, which is missing", "apt-get install bubblewrap")
    if importlib.util.find_spec("pydantic_ai") is None:
        raise Unavailable("the library that talks to models is missing", "pip install 'signalbox[agent]'")
    shut = ("--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534")
    rim = ("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "loop")
    calls = ("--seccomp", str(filter_fd))
    tmp = ("--proc", "/proc", "--dev", "/dev", "--size", str(FILE_SIZE), "--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108
    ours = ("--ro-bind", str(inside), "/signalbox/inside", "--ro-bind", str(socket.parent), str(socket.parent))
    frozen = ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/")
    python = (sys.executable, "-I", "-B", "-X", "utf8", "-c", _BOOT)
    return (bwrap, *shut, *rim, *calls, *_python(), *tmp, *ours, *frozen, *python)


def _python() -> Iterator[str]:
    """The binds that Python needs: the system's libraries, the interpreter's own folder, the virtualenv."""
    yield from ("--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")
    for folder in (Path("/bin"), Path("/lib"), Path("/lib64")):
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.exists():
            yield from ("--ro-bind", str(folder), str(folder))
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        if not Path(prefix).is_relative_to("/usr"):
            yield from ("--ro-bind", prefix, prefix)


class Loop:
    """The process, as the worker hears it. One thread uses it."""

    def __init__(self, process: subprocess.Popen[bytes], ends_at: float, stopped: Callable[[], bool]) -> None:
        assert process.stdin is not None  # noqa: S101 - Popen was told to make all three
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        self._process, self._ends_at, self._stopped = process, ends_at, stopped
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        self._heard, self._stderr = bytearray(), bytearray()
        self._selector = selectors.DefaultSelector()
        for pipe in (self._in, self._out, self._err):
            os.set_blocking(pipe.fileno(), False)
        self._selector.register(self._out, selectors.EVENT_READ)
        self._selector.register(self._err, selectors.EVENT_READ)

    def tell(self, word: wire.Start | wire.Answer) -> None:
        """Send a line; raises LoopEnded when the process does not take it."""
        line = memoryview(word.line())
        if len(line) > wire.LONGEST:
            raise LoopEnded("the conversation grew too long to go on with")
        self._selector.register(self._in, selectors.EVENT_WRITE)
        try:
            while line:
                if self._in in self._ready():
                    line = line[self._write(line) :]
        finally:
            self._selector.unregister(self._in)

    def hear(self) -> wire.Said | wire.Call | wire.End:
        """The next line; raises LoopEnded: none came, or one that is not of the protocol."""
        while (end := self._heard.find(b"\n")) < 0:
            if len(self._heard) > wire.LONGEST:
                raise LoopEnded("its process said a line that is too long")
            if self._out in self._ready() and not self._read(self._out, self._heard):
                raise LoopEnded(self._last_words())
        line = bytes(self._heard[:end])
        del self._heard[: end + 1]
        try:
            return wire.WORDS.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
            raise LoopEnded(f"its process broke the protocol: {first}") from None

    def _ready(self) -> list[object]:
        if self._stopped():
            raise LoopEnded("it was stopped")
        if time.monotonic() > self._ends_at:
            raise LoopEnded("its time was over")
        ready: list[object] = [key.fileobj for key, _ in self._selector.select(_TICK_S)]
        if self._err in ready and not self._read(self._err, self._stderr):
            self._selector.unregister(self._err)
        del self._stderr[:-STDERR_KEPT]
        return ready

    def _write(self, line: memoryview) -> int:
        try:
            return os.write(self._in.fileno(), line)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise LoopEnded(self._last_words()) from None

    def _read(self, pipe: IO[bytes], into: bytearray) -> int:
        try:
            chunk = os.read(pipe.fileno(), 64 * 1024)
        except BlockingIOError:
            return 1
        into += chunk
        return len(chunk)

    def _last_words(self) -> str:
        try:
            code: int | None = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = None
        while self._read(self._err, self._stderr) > 1:
            pass
        last = bytes(self._stderr[-STDERR_KEPT:]).decode("utf-8", "replace").strip().splitlines()[-1:]
        how = "closed its output" if code is None else f"ended with code {code}"
        return f"its process {how}" + (f": {last[0][:500]}" if last else "")


@contextmanager
def running(socket: Path, ends_at: float, stopped: Callable[[], bool], inside: Path = INSIDE) -> Iterator[Loop]:
    """The loop's process; it and all that it began are dead when this returns. `ends_at`: of the monotonic clock."""
    process = _started(socket, inside)
    try:
        yield Loop(process, ends_at, stopped)
    finally:
        _kill(process)


def _started(socket: Path, inside: Path) -> subprocess.Popen[bytes]:
    pipe, (reads, writes) = subprocess.PIPE, os.pipe()
    try:
        with os.fdopen(writes, "wb") as filter_in:
            filter_in.write(syscalls.program())  # some hundred bytes: the pipe holds them
        return subprocess.Popen(
            command(socket, inside, reads),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={},
            cwd="/",
            start_new_session=True,
            pass_fds=(reads,),
        )
    except OSError as error:
        raise Unavailable(f"bubblewrap cannot be started: {error}") from error
    finally:
        os.close(reads)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
