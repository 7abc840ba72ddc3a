"""The installed command `signalbox`, run as a process of its own with a home of its own and nobody else's variables."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tests.plugins_vm import vm_images
from tests.services.postgres import Postgres

__all__ = ["vm_images"]

COMMAND = Path(sys.executable).with_name("signalbox")
RUNBOOKS = Path(__file__).parents[3] / "runbooks"
COMMAND_S = 60
UP_S = 45
STOP_S = 45


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@dataclass
class Signalbox:
    """One installation. `set` holds its SIGNALBOX_* variables (without the prefix)."""

    folder: Path
    set: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.set |= {
            "HOME": str(self.folder / "home"),
            "LISTEN": f"127.0.0.1:{_free_port()}",
            "RUNBOOKS": str(RUNBOOKS),
            "SITES": str(self.folder / "sites.yaml"),
            "IMAGES": str(self.folder / "images"),
        }

    @property
    def environ(self) -> dict[str, str]:
        """The whole environment of its processes."""
        return {"PATH": os.environ["PATH"]} | {f"SIGNALBOX_{name}": value for name, value in self.set.items()}

    @property
    def url(self) -> str:
        """Its web server."""
        return f"http://{self.set['LISTEN']}"

    def __call__(self, *argv: str) -> Said:
        """Run one command to its end."""
        done = subprocess.run(
            [str(COMMAND), *argv],
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def up(self, verb: str = "up") -> Iterator[subprocess.Popen[bytes]]:
        """`signalbox up` (or `web`), from the first answer of its pages until it ended by SIGTERM."""
        log = self.folder / f"{verb}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(COMMAND), verb], env=self.environ, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT
            )
        try:
            self._await(process, log)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)
                pytest.fail(f"signalbox did not end by SIGTERM: {log.read_text()[-2000:]}")

    def _await(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + UP_S
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(self.url, timeout=5).raise_for_status()
                return
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"signalbox did not come up: {log.read_text()[-2000:]}")
            time.sleep(0.1)


@pytest.fixture
def signalbox(tmp_path: Path) -> Signalbox:
    """An installation that was never started."""
    return Signalbox(tmp_path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real Postgres of this test run's own."""
    with Postgres.started() as server:
        yield server
