"""A seccomp filter for the loop's process: it starts no other, and leaves alone what of the kernel no Python needs.

Limits of processes do not hold for root; this does. Threads are allowed. Written by hand, as the kernel reads it:
`man 2 seccomp`, linux/filter.h.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterator

from engine.domain.errors import Unavailable

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x00050001, 0x00050026
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
""" Offsets in struct seccomp_data. """
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000
_CLONE3 = 435
""" Its flags lie in memory, where no filter looks: "not there" makes the C library take clone. """

# fork, vfork, ptrace, bpf, userfaultfd, perf_event_open, io_uring_setup, keyctl, add_key, request_key
_MACHINES = {
    "x86_64": (0xC000003E, 56, (57, 58, 101, 321, 323, 298, 425, 250, 248, 249)),
    "aarch64": (0xC00000B7, 220, (117, 280, 282, 241, 425, 219, 217, 218)),  # it has neither fork nor vfork
}
""" By machine: its audit number, the number of clone, the numbers that are refused. """


def program(machine: str = "") -> bytes:
    """The filter as `bwrap --seccomp` takes it. Raises Unavailable: no filter is known for this machine."""
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise Unavailable(
            f"an agent's loop has no system call filter for {machine}", f"run it on {' or '.join(_MACHINES)}"
        )
    return b"".join(struct.pack("=HBBI", *each) for each in _instructions(*_MACHINES[machine]))


def _instructions(architecture: int, clone: int, refused: tuple[int, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Code, jump if true, jump if not, value."""
    yield (_LOAD, 0, 0, _ARCHITECTURE)
    yield (_EQUAL, 1, 0, architecture)
    yield (_RETURN, 0, 0, _KILL)
    yield (_LOAD, 0, 0, _NUMBER)
    yield (_AT_LEAST, 0, 1, _X32)
    yield (_RETURN, 0, 0, _KILL)
    for number in refused:
        yield (_EQUAL, 0, 1, number)
        yield (_RETURN, 0, 0, _EPERM)
    yield (_EQUAL, 0, 1, _CLONE3)
    yield (_RETURN, 0, 0, _ENOSYS)
    yield (_EQUAL, 0, 3, clone)
    yield (_LOAD, 0, 0, _FIRST_ARGUMENT)
    yield (_ANY_BIT, 1, 0, _CLONE_THREAD)
    yield (_RETURN, 0, 0, _EPERM)
    yield (_RETURN, 0, 0, _ALLOW)
