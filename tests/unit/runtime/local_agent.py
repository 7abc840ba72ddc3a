"""The real guest agent as a plain process over a socket pair: no VM, no root, nothing of the machine is touched."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from engine.runtime.channel import Channel
from engine.runtime.egress import Egress
from engine.runtime.transport import Transport

ROOT = Path(__file__).parents[3]

AGENT = """
import os, sys
from pathlib import Path
from engine.runtime.guest import agent, wire

class Harmless(agent.Machine):
    root = Path(sys.argv[2])
    def ready(self): pass
    def set_up(self, seed, now, boot_id, machine_id, hostname): pass
    def name(self, address, host): pass
    def user(self): return {}
    def own(self, fd): pass
    def own_folder(self, path): pass
    def start(self, argv, **how): return agent.subprocess.Popen(argv, **how)
    def limit(self, processes, disk_mb): pass
    def exceeded(self): return []
    def power_off(self): os._exit(0)

agent.Agent(wire.Line(int(sys.argv[1])), Harmless()).serve()
"""


class SocketLine:
    """A socket as a line to the guest, and the thread that reads it."""

    def __init__(self, end: socket.socket, channel: Channel) -> None:
        self._end = end
        self._thread = threading.Thread(target=self._read, args=(channel,), daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> int:
        return self._end.send(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._end.close()

    def _read(self, channel: Channel) -> None:
        with contextlib.suppress(OSError):
            while data := self._end.recv(65536):
                channel.received(data)
        channel.ended("the VM is gone")


class LocalGuest:
    """An agent process, and a channel to it. `home` stands for the root of its file system."""

    def __init__(self, home: Path, egress: Egress, agent: str = AGENT) -> None:
        (home / "step").mkdir(parents=True, exist_ok=True)
        here, there = socket.socketpair()
        with there:
            self.process = subprocess.Popen(
                [sys.executable, "-c", agent, str(there.fileno()), str(home)],
                pass_fds=[there.fileno()],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"]},
            )
        self.transport = Transport()
        self.channel = Channel(self.transport.write, egress)
        self.transport.attach(SocketLine(here, self.channel), self.channel)

    def close(self) -> None:
        """The VM is destroyed."""
        self.transport.close()
        self.process.kill()
        self.process.wait(5)
