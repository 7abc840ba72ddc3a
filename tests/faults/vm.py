"""What stands for a VM in tests of faults: a process of its own that outlives whoever started it.

Run as `python -I -S vm.py ORDER` by `process_hypervisor`, standard library only. ORDER is JSON: its mark, the record of
its target, how long it works, whether it changes anything, when it ends itself. It says so in the target's own record,
so that what happened twice is counted outside of Signalbox.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from typing import Any

TICK_S = 0.02


def started_at(pid: int) -> str:
    """When a process was born, in ticks of its machine: a pid alone may be somebody else's by now."""
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - this file also runs without our packages, quickly
        return stat.read().rpartition(")")[2].split()[19]


def say(order: dict[str, Any], what: str) -> None:
    """One line in the target's record: O_APPEND, so that lines of two VMs never mix."""
    line = {"what": what, "at": time.time(), "boot": time.clock_gettime(time.CLOCK_BOOTTIME), **order["who"]}
    record = os.open(order["record"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(record, (json.dumps(line) + "\n").encode())
    os.close(record)


def is_wanted(path: str) -> bool:
    """Sign the mark; False when whoever destroys was here before us."""
    try:
        mark = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    fcntl.flock(mark, fcntl.LOCK_EX)
    if os.fstat(mark).st_nlink == 0:
        return False
    told = json.loads(os.read(mark, 10_000))
    signed = json.dumps({**told, "pid": os.getpid(), "born": started_at(os.getpid())}).encode()
    os.pwrite(mark, signed, 0)
    os.close(mark)
    return True


def main() -> None:
    """Work for a while; change something in the middle of it."""
    order = json.loads(sys.argv[1])
    signal.setitimer(signal.ITIMER_REAL, order["ends_itself_after_s"])  # nobody need be left to destroy it
    if not is_wanted(order["mark"]):
        return
    say(order, "begin")
    begun, changed = time.monotonic(), False
    while (spent := time.monotonic() - begun) < order["works_s"]:
        if order["changes"] and not changed and spent >= order["works_s"] / 2:
            changed = True
            say(order, "effect")
        else:
            say(order, "tick")
        time.sleep(TICK_S)
    say(order, "end")


if __name__ == "__main__":
    main()
