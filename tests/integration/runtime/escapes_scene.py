"""Where programs try to escape: a hypervisor, an image in which commands are root, and who listens on the host."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from engine.domain.ports import FileIn, Reach, SecretValue, TaskResult
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime import escapes
from tests.integration.runtime.harness import task
from tests.plugins_vm import Plain

OWNER = f"escapes-{os.getpid()}"
CARRIED = Path(escapes.__file__).parent
SECRET = f"secret-{uuid.uuid4()}"
HOST_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
MARKER = (secrets.token_hex(20), secrets.token_hex(20))

# Leaves a marker wherever it can write, and in its memory; listens for anybody.
LEAVER = """
import os, socket, sys, time
marker = (sys.argv[1] + sys.argv[2]).encode()
for folder in ("/", "/tmp", "/step", "/run", "/dev/shm", "/var/tmp", "/root", "/etc"):
    with open(folder + "/left", "wb") as file: file.write(marker * 1000)
kept = marker * 500_000
server = socket.create_server(("0.0.0.0", int(sys.argv[3])))
print("ready", flush=True)
time.sleep(float(sys.argv[4]))
"""


class Server:
    """Listens on the host; counts who came. `answer` None: it never reads and never answers."""

    def __init__(self, address: str, answer: bytes | None) -> None:
        self.asked = self.most = self._now = 0
        self._answer = answer
        self._lock = threading.Lock()
        self._socket = socket.create_server((address, 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                self.asked += 1
                self._now += 1
                self.most = max(self.most, self._now)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        if self._answer is None:
            self._kept.append(connection)
            return
        with connection:
            try:
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + self._answer)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
        with self._lock:
            self._now -= 1

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._kept:
            connection.close()


@dataclass(frozen=True)
class Scene:
    """A hypervisor, an image in which commands are root, and who listens on the host."""

    hypervisor: LibvirtHypervisor
    image: str
    service: Server
    sink: Server
    canary: Server

    def reaches(self) -> tuple[Reach, ...]:
        return tuple(
            Reach(host=host, port=port, address="127.0.0.1", address_port=server.port)
            for host, port, server in (("service.test", 8080, self.service), ("sink.test", 9, self.sink))
        )

    def run(self, *words: str, image: str = "", timeout_s: float = 120) -> TaskResult:
        """Run a part of the carried package; every VM may reach the service and the sink, and holds a secret."""
        told = {
            "canary": self.canary.port,
            "service": self.service.port,
            "host addresses": own_addresses(),
            "host name": socket.gethostname(),
            "marker": MARKER,
            "never told": [SECRET, OWNER, "run-escapes", str(Path.cwd()), HOST_ID],
        }
        steps = " && ".join(f"{'exec ' * (word is words[-1])}python3 -m {escapes.__name__} {word}" for word in words)
        work = task(
            f"cd /step && {steps}",
            run_id="run-escapes",
            image=image or self.image,
            timeout_s=timeout_s,
            env={"ESCAPES": json.dumps(told)},
            files=tuple(
                FileIn(path=f"/step/{escapes.__name__.replace('.', '/')}/{path.name}", content=path.read_bytes())
                for path in CARRIED.glob("*.py")
            ),
            secrets=(SecretValue(name="token", value=SECRET),),
            reaches=self.reaches(),
        )
        return self.hypervisor.run(work, Plain(), lambda _: None)


def own_addresses() -> list[str]:
    """This machine's addresses, but loopback; its host name's if it has none."""
    told = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    return told or ["192.0.2.1"]
