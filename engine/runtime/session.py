"""One task over one channel: set up, put files and secrets, run the command, bring back what it left.

The result says how it ended; a guest can make a task fail, never make this raise. Used by the hypervisor, which owns
the VM; tested over a socket pair with the real agent.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from engine.domain import archive
from engine.domain.errors import BadInput
from engine.domain.ports import Ending, Redactor, TaskResult, VmTask
from engine.runtime.channel import Channel, GuestRefused, digest_of
from engine.runtime.egress import Egress
from engine.runtime.frames import BrokenProtocol, Frame, Kind, json_object, text_of
from engine.runtime.output import Output
from engine.runtime.streams import ChannelEnded, Stream

log = structlog.get_logger()

SECRETS = "/run/secrets"
GRACE_S = 3.0
SPARE_LIFE_S = 120.0
LIMITS = ("memory", "processes", "disk")
""" What the guest may say of its limits. """
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check(task: VmTask) -> None:
    """Raise BadInput for a task that could not be carried out as written."""
    if not NAME.fullmatch(task.id) or not NAME.fullmatch(task.run_id):
        raise BadInput(f"task id {task.id!r} or run id {task.run_id!r} is not plain", "use letters, digits, . _ -")
    if not task.argv or any("\0" in word for word in task.argv):
        raise BadInput("the command is empty or holds a NUL", "name a program")
    for file in task.files:
        archive.check_absolute(file.path)
    for secret in task.secrets:
        if not NAME.fullmatch(secret.name):
            raise BadInput(f"secret name {secret.name!r} is not plain", "use letters, digits, . _ -")
    if task.collect is not None:
        archive.check_absolute(task.collect)


class Sink(Protocol):
    """Where a command's bytes go: `Output`, or something that keeps them as they are."""

    truncated: bool

    def feed(self, data: bytes) -> None: ...


@dataclass(slots=True)
class Progress:
    """What is known so far, kept outside the steps so that any of them may fail."""

    begun_at: float
    out: Sink
    err: Sink
    sent: bool = False
    timed_out: bool = False
    met: tuple[str, ...] = ()
    received: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class NotBegun(Exception):
    """The command was not started."""


Body = Callable[[Channel, Egress, VmTask, Progress], tuple[Ending, int | None, str]]
""" What is done in a VM that is ready: how it ended, its code, why. Sets `sent` once a command may have begun. """


def carry_out(
    channel: Channel,
    egress: Egress,
    task: VmTask,
    redactor: Redactor,
    on_output: Callable[[str], None],
    *,
    boot_timeout_s: float,
    is_up: Callable[[], None] = lambda: None,
    body: Body | None = None,
) -> TaskResult:
    """Do the task; closes the channel. `check(task)` must have passed. Raises only what `on_output` and `body` raise.

    `is_up` is called when the VM has booted; it never raises. `body`: what is done instead of the task's one command.
    """
    out, err = (Output(redactor, task.output_limit, on_output) for _ in range(2))
    progress = Progress(time.monotonic(), out, err)
    ending, code, reason = Ending.VM_LOST, None, ""
    try:
        channel.hello(boot_timeout_s)
        is_up()
        _prepare(channel, task, progress)
        ending, code, reason = (body or one_command)(channel, egress, task, progress)
        if ending is Ending.EXITED and task.collect is not None:
            progress.files = channel.collect(task.collect, task.collect_limit)
    except NotBegun as error:
        ending, reason = Ending.NOT_BEGUN, str(error)
    except GuestRefused as error:
        # After the command only collecting asks something: the command did end, its files are missing.
        said = str(error) if progress.sent else f"the VM could not be prepared: {error}"
        reason = "; ".join(filter(None, (reason, said)))
        ending = ending if progress.sent else Ending.NOT_BEGUN
    except (ChannelEnded, BrokenProtocol) as error:
        reason, code = str(error), None
        ending = _ending_of_loss(progress)
    finally:
        channel.close()
    return TaskResult(
        ending=ending,
        code=code,
        stdout=out.close(),
        stderr=err.close(),
        truncated=out.truncated or err.truncated,
        reason=redactor(reason),
        seconds=round(time.monotonic() - progress.begun_at, 3),
        files=progress.files,
        received=progress.received,
        connections=egress.records(),
    )


def _ending_of_loss(progress: Progress) -> Ending:
    if not progress.sent:
        return Ending.NOT_BEGUN
    return Ending.TIMED_OUT if progress.timed_out else Ending.VM_LOST


def _prepare(channel: Channel, task: VmTask, progress: Progress) -> None:
    channel.set_up(
        lifetime_s=task.timeout_s + SPARE_LIFE_S,
        dies_alone=not task.outlives_worker,
        processes=task.processes,
        disk_mb=task.disk_mb,
    )
    for file in task.files:
        told = channel.put(file.path, file.content, file.mode)
        progress.received[file.path] = told
        if told != digest_of(file.content):
            raise NotBegun(f"{file.path} did not arrive as it was sent")
    for secret in task.secrets:
        content = secret.value.encode()
        if channel.put(f"{SECRETS}/{secret.name}", content, 0o400) != digest_of(content):
            raise NotBegun(f"secret {secret.name} did not arrive as it was sent")


def one_command(channel: Channel, egress: Egress, task: VmTask, progress: Progress) -> tuple[Ending, int | None, str]:
    """Run the task's command to its end. Raises NotBegun, ChannelEnded, BrokenProtocol."""
    stream = channel.open()
    try:
        ending, code, reason = _followed(channel, stream, task, progress)
    finally:
        channel.forget(stream)
    return ending, code, _with_limits(reason, task, progress, egress)


def _followed(channel: Channel, stream: Stream, task: VmTask, progress: Progress) -> tuple[Ending, int | None, str]:
    folders = (task.collect,) if task.collect else ()
    deadline = time.monotonic() + task.timeout_s
    progress.sent = True  # from here on it may have begun
    channel.execute(stream, task.argv, task.env, folders)
    threading.Thread(target=_feed, args=(channel, stream, task.stdin), daemon=True, name="stdin").start()
    for signal_number in (None, signal.SIGTERM, signal.SIGKILL):
        if signal_number is not None:
            progress.timed_out = True
            channel.signal(stream, signal_number)
            deadline = time.monotonic() + GRACE_S
        frame = _follow(stream, progress, deadline)
        if frame is not None:
            return _conclude(frame, task, progress)
    raise ChannelEnded(f"no end within {task.timeout_s:.0f} s, and the VM did not obey a kill")


def _with_limits(reason: str, task: VmTask, progress: Progress, egress: Egress) -> str:
    """Why it ended, and which limits it met: it may have gone on without what it was denied."""
    words = {
        "memory": f"memory: {task.memory_mb} MB",
        "processes": f"processes: {task.processes} at once",
        "disk": f"disk: {task.disk_mb} MB" if task.disk_mb else "disk: half of its memory",
    }
    met = [words[name] for name in progress.met] + ([egress.limit] if egress.used_up else [])
    return "; ".join(filter(None, (reason, *(f"it met its limit of {limit}" for limit in met))))


def _feed(channel: Channel, stream: Stream, data: bytes) -> None:
    with contextlib.suppress(ChannelEnded):
        stream.push(Kind.STDIN, data)
        channel.end_of_input(stream)


def _follow(stream: Stream, progress: Progress, deadline: float) -> Frame | None:
    """Take output until the command has ended (its last frame) or the deadline has come (None)."""
    while True:
        left = deadline - time.monotonic()
        frame = stream.next(max(left, 0.0))
        if frame is not None and frame.kind in {Kind.EXIT, Kind.ERR}:
            return frame
        if frame is None or left <= 0:  # whatever else it says, and however much of it: its time is over
            return None
        if frame.kind == Kind.STDOUT:
            progress.out.feed(frame.payload)
        elif frame.kind == Kind.STDERR:
            progress.err.feed(frame.payload)
        stream.acknowledge(frame)


def _conclude(frame: Frame, task: VmTask, progress: Progress) -> tuple[Ending, int | None, str]:
    answer = json_object(frame.payload)
    told = answer.get("limits")
    progress.met = tuple(name for name in LIMITS if isinstance(told, list) and name in told)
    code, number = answer.get("code"), answer.get("signal")
    if progress.timed_out:
        return Ending.TIMED_OUT, None, f"no end within {task.timeout_s:.0f} s"
    if "error" in answer:
        text = text_of(answer["error"])
        if frame.kind == Kind.ERR:  # the agent stumbled over the command: nobody knows how far it came
            return Ending.VM_LOST, None, text
        raise NotBegun(f"the command could not be started: {text}")
    if type(code) is int and 0 <= code <= 255 and number is None:
        return Ending.EXITED, code, ""
    if type(number) is int and 0 < number < 65 and code is None:
        return Ending.SIGNALLED, None, f"ended by signal {number}"
    raise BrokenProtocol("the guest told no sensible end of the command")


def log_refused(task: VmTask, result: TaskResult) -> None:
    """Of a probe this is the only record: a gate keeps what it measured."""
    refused = [row for row in result.connections if not row.allowed]
    if refused:
        most = max(refused, key=lambda row: row.count)
        times = sum(row.count for row in refused)
        log.warning("a VM tried what it may not reach", task=task.id, times=times, most=f"{most.host}:{most.port}")
