"""One attempt to get out, and what came of it. Each prints a line of JSON, which the host's side of the test judges."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOLD: dict[str, Any] = json.loads(os.environ.get("ESCAPES", "{}"))
""" What the host's side tells: ports, names, marks. """
ATTEMPTS: dict[str, tuple[str, Callable[[], str]]] = {}
LIBC = ctypes.CDLL(None, use_errno=True)


class Escaped(Exception):
    """It worked."""


def attempt(name: str, tried: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register an attempt. The function returns what stopped it or raises OSError; it raises Escaped when it worked."""

    def register(function: Callable[[], str]) -> Callable[[], str]:
        ATTEMPTS[name] = (tried, function)
        return function

    return register


def each(things: Iterable[Any], act: Callable[[Any], object]) -> str:
    """Try it with each thing; the ways in which they failed. Raises Escaped with those that worked."""
    failed: dict[str, list[str]] = {}
    worked = []
    for thing in things:
        try:
            worked.append(f"{thing}: {act(thing)}")
        except OSError as error:
            failed.setdefault(error.strerror or str(error), []).append(str(thing))
    if worked:
        raise Escaped("; ".join(worked))
    return "; ".join(f"{why} ({len(ones)})" for why, ones in failed.items())


def call(number: int, *arguments: Any) -> int:
    """A system call by its number on x86_64; raises OSError."""
    result: int = LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def port_number() -> int:
    """Of the agent's descriptor of the VM's port."""
    return next(int(fd.name) for fd in Path("/proc/1/fd").iterdir() if str(fd.readlink()).startswith("/dev/vport"))


@contextmanager
def the_port() -> Iterator[int]:
    """The agent's own descriptor of the VM's port, taken out of PID 1 (pidfd_open, pidfd_getfd)."""
    agent = call(434, 1, 0)
    fd = call(438, agent, port_number(), 0)
    os.close(agent)
    os.set_blocking(fd, True)
    try:
        yield fd
    finally:
        os.set_blocking(fd, False)
        os.close(fd)


def make(name: str) -> dict[str, object]:
    """Make one attempt."""
    tried, function = ATTEMPTS[name]
    row: dict[str, object] = {"name": name, "tried": tried, "escaped": False}
    try:
        row["happened"] = function()
    except Escaped as error:
        row |= {"happened": str(error), "escaped": True}
    except OSError as error:
        row["happened"] = error.strerror or str(error)
    except Exception as error:  # noqa: BLE001 - told to the host's side, where it fails the test
        row["happened"] = f"the attempt itself broke: {type(error).__name__}: {error}"
    return row


def make_all(names: Iterable[str]) -> None:
    """Make these, one after another, each told as soon as it is over."""
    for name in names:
        sys.stdout.write(json.dumps(make(name)) + "\n")
        sys.stdout.flush()
