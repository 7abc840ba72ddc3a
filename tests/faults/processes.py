"""Processes of Signalbox as a test sees them: asked by a line of JSON, killed, paused, drained."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ANSWERS_WITHIN_S = 60


class GoneError(Exception):
    """The process died before it answered: what was asked may have been done, or not."""


class RefusedError(Exception):
    """The process says no. `kind`: which error of engine.domain.errors."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Wait for a condition; fails with what it was when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain: {what}"
        threading.Event().wait(0.02)


@dataclass
class Process:
    """One `python -m tests.faults.worker ...`."""

    arguments: tuple[str, ...]
    log: Path
    inside: tuple[str, ...] = ()
    _child: subprocess.Popen[str] = field(init=False)
    _answers: queue.Queue[str] = field(init=False)
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Start it, or start it again after it died; returns when it answers. Nobody asks it anything before."""
        with self._asking:
            with self.log.open("ab") as log:
                self._child = subprocess.Popen(
                    [*self.inside, sys.executable, "-m", "tests.faults.worker", *self.arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                )
            self._answers = queue.Queue()
            threading.Thread(target=_read, args=(self._child, self._answers), daemon=True).start()
            try:
                self._next()
            except GoneError:
                raise AssertionError(f"the process did not come up: {self.log.read_text()[-2000:]}") from None

    def ask(self, verb: str, **told: object) -> Any:
        """What it answers. Raises GoneError, RefusedError."""
        with self._asking:
            child = self._child
            try:
                assert child.stdin is not None
                child.stdin.write(json.dumps({"verb": verb, **told}) + "\n")
                child.stdin.flush()
            except (OSError, ValueError):
                raise GoneError from None
            answer = json.loads(self._next())
        if "error" in answer:
            raise RefusedError(answer["kind"], answer["error"])
        return answer["answer"]

    def _next(self) -> str:
        try:
            line = self._answers.get(timeout=ANSWERS_WITHIN_S)
        except queue.Empty:
            raise AssertionError(f"no answer for {ANSWERS_WITHIN_S} s: {self.log.read_text()[-2000:]}") from None
        if not line:
            raise GoneError
        return line

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def lives(self) -> bool:
        """Whether it runs (or is paused)."""
        return self._child.poll() is None

    def kill(self) -> None:
        """kill -9."""
        self._child.kill()
        self.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self._child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._child.send_signal(signal.SIGCONT)

    def drain(self) -> None:
        """SIGTERM."""
        self._child.terminate()

    def wait(self, timeout_s: float = 30) -> int:
        """Until it has ended; its exit code."""
        code = self._child.wait(timeout_s)
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):  # what nobody read is still in it
            self._child.stdin.close()
        return code

    def end(self) -> None:
        """Whatever state it is in."""
        if hasattr(self, "_child"):
            with contextlib.suppress(OSError):
                self.kill()


def _read(child: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    assert child.stdout is not None
    with child.stdout as told:
        for line in told:
            answers.put(line)
    answers.put("")
