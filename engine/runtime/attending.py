"""Many commands in one VM, for `engine.agents`: a body of `session.carry_out` that gives `work` a `Guest`.

Commands run one after the other, as the step's user; what one leaves running is ended with it. Files are read and
written by such commands too, never by the guest's agent, which is root there: a link leads nobody past their rights.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from engine.domain import archive
from engine.domain.agent import CommandResult, Guest
from engine.domain.errors import BadInput, Unavailable
from engine.domain.ports import Ending, Redactor, VmTask
from engine.runtime import session
from engine.runtime.channel import ANSWER_TIMEOUT_S, Channel
from engine.runtime.egress import Egress
from engine.runtime.frames import BrokenProtocol, text_of
from engine.runtime.output import Output
from engine.runtime.session import NotBegun, Progress, Sink
from engine.runtime.streams import ChannelEnded

FILE_TIMEOUT_S = 60.0
MAX_SAID = 4096
READ = """\
[ -L "$1" ] && echo "it is a symbolic link" >&2 && exit 1
[ -e "$1" ] || { echo "there is no such file" >&2; exit 1; }
[ -f "$1" ] || { echo "it is no regular file" >&2; exit 1; }
exec head -c "$2" -- "$1"
"""
WRITE = """\
set -e
mkdir -p -- "$(dirname -- "$1")"
rm -f -- "$1"
cat > "$1"
sha256sum < "$1"
"""


def body(work: Callable[[Guest], None], redactor: Redactor) -> session.Body:
    """What `carry_out` does instead of one command: `work`, within the task's time. Raises what `work` raises."""

    def attend(channel: Channel, egress: Egress, task: VmTask, progress: Progress) -> tuple[Ending, int | None, str]:
        def over() -> None:
            if not channel.is_over:
                progress.timed_out = True
                channel.ended(f"no end within {task.timeout_s:.0f} s")

        progress.sent = True
        timer = threading.Timer(task.timeout_s, over)
        timer.daemon = True
        timer.start()
        try:
            work(_Attended(channel, egress, task, redactor))
        except Unavailable:
            if not channel.is_over:  # not of this VM
                raise
        finally:
            timer.cancel()
        channel.ping(ANSWER_TIMEOUT_S)  # a VM that was lost meanwhile is lost, whether or not anybody missed it
        return Ending.EXITED, 0, ""

    return attend


class _Attended:
    """Implements `engine.domain.agent.Guest`, and `Streams`."""

    def __init__(self, channel: Channel, egress: Egress, task: VmTask, redactor: Redactor) -> None:
        self._channel, self._egress, self._task, self._redactor = channel, egress, task, redactor
        self._one_at_a_time = threading.Lock()

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:
        """See `Guest.run`. Raises BadInput for what is no command, Unavailable."""
        return self._run(argv, timeout_s, output_limit, lambda _: None)

    def _run(
        self, argv: tuple[str, ...], timeout_s: float, output_limit: int, on_output: Callable[[str], None]
    ) -> CommandResult:
        out, err = Output(self._redactor, output_limit, on_output), Output(self._redactor, output_limit, lambda _: None)
        code, reason = self._command(argv, timeout_s, out, err)
        stdout, stderr = out.close(), err.close()
        truncated = out.truncated or err.truncated
        return CommandResult(code=code, stdout=stdout, stderr=stderr, truncated=truncated, reason=reason)

    def stream(
        self, argv: tuple[str, ...], timeout_s: float, output_limit: int, on_output: Callable[[str], None]
    ) -> CommandResult:
        """See `Streams.stream`. Raises BadInput, Unavailable."""
        return self._run(argv, timeout_s, output_limit, on_output)

    def read(self, path: str, limit: int) -> bytes:
        """See `Guest.read`."""
        content = self._sh(READ, path, str(limit + 1), limit=limit + 1)
        if len(content) > limit:
            raise BadInput(f"{path} is longer than {limit} bytes", "read a part of it by a command")
        return content

    def write(self, path: str, content: bytes) -> None:
        """See `Guest.write`."""
        told = self._sh(WRITE, path, stdin=content)
        if told.split()[:1] != [hashlib.sha256(content).hexdigest().encode()]:
            raise BadInput(f"{path} did not arrive as it was sent", "look at what is there, and write it again")

    def _sh(self, script: str, path: str, *words: str, limit: int = MAX_SAID, stdin: bytes = b"") -> bytes:
        """What a small script for a file prints, as it is; raises BadInput with what it says is wrong."""
        archive.check_absolute(path)
        out, err = _Raw(limit), _Raw(MAX_SAID)
        argv = ("/bin/sh", "-c", script, "sh", path, *words)
        code, reason = self._command(argv, FILE_TIMEOUT_S, out, err, stdin)
        if code != 0:
            said = text_of(err.content.decode("utf-8", "replace").strip() or reason or f"exit code {code}")
            raise BadInput(self._redactor(f"{path}: {said}"), "look at what is there")
        return bytes(out.content)

    def _command(
        self, argv: tuple[str, ...], timeout_s: float, out: Sink, err: Sink, stdin: bytes = b""
    ) -> tuple[int | None, str]:
        """Run it to its end: the code, and what else is to be said. Raises BadInput, Unavailable."""
        if not argv or any("\0" in word for word in argv):
            raise BadInput("the command is empty or holds a NUL", "name a program")
        task = replace(self._task, argv=argv, timeout_s=timeout_s, stdin=stdin)
        try:
            with self._one_at_a_time:
                ending, code, reason = session.one_command(
                    self._channel, self._egress, task, Progress(time.monotonic(), out, err)
                )
        except NotBegun as error:
            return None, self._redactor(str(error))
        except (ChannelEnded, BrokenProtocol) as error:
            raise self._lost(str(error)) from None
        if ending is Ending.VM_LOST:
            raise self._lost(reason)
        return code, self._redactor(reason)

    def _lost(self, reason: str) -> Unavailable:
        """Whatever is asked of this VM from here on, it is gone; the first reason counts."""
        self._channel.ended(reason)
        return Unavailable(f"the VM is gone: {self._redactor(reason)}", "the step begins again in another VM")


class _Raw:
    """A command's bytes as they are, cut at a limit."""

    def __init__(self, limit: int) -> None:
        self.content = bytearray()
        self.truncated = False
        self._limit = limit

    def feed(self, data: bytes) -> None:
        self.content += data[: self._limit - len(self.content)]
        self.truncated = self.truncated or len(self.content) >= self._limit
