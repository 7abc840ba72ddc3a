"""Keeps one child alive exactly as long as its owner. `embedded` runs this file as a small process of its own.

    python -I -S keeper.py PROGRAM ARGUMENTS...

The owner holds the other end of our standard input and reads the child's pid from our standard output. When the owner
closes it, or dies in whatever way, we read the end of file and end the child. If we ourselves are killed, the kernel
ends the child (PR_SET_PDEATHSIG, man 2 prctl; it is bound to the thread that forked, here our only one, which is why
the owner's threads do not matter). Imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 10


def main(argv: list[str], lock: int) -> int:
    """Start the child, wait for its end or the owner's; returns the child's exit code. `lock` is inherited by it."""
    libc = ctypes.CDLL(None, use_errno=True)
    ourselves = os.getpid()

    def before_exec() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no secret on disk in a core dump
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0 or os.getppid() != ourselves:
            os._exit(127)

    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=before_exec,  # noqa: PLW1509  # safe: there is one thread yet
        pass_fds=(lock,),
    )
    os.write(1, f"{child.pid}\n".encode())
    threading.Thread(target=_end_with_owner, args=(child,), daemon=True).start()
    return child.wait()


def _end_with_owner(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    child.terminate()
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    os._exit(main(sys.argv[2:], int(sys.argv[1])) & 0xFF)
