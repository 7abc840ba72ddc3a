"""The scripts of `disk-full` outside of any VM: a service of our own in a folder, and an `ssh` that runs here."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo.world.guest.checkout import Checkout

SCRIPTS = Path(__file__).parents[3] / "runbooks" / "disk-full"
SSH = """#!/bin/sh
[ "$1 $2" = "target --" ] || { echo "ssh was called with $*" >&2; exit 99; }
shift 2
exec sh -c "$*"
"""
""" As sshd does it: the words are joined and given to a shell. """


class Bench:
    """One target folder and one step folder; scripts run with their absolute paths pointing here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "srv" / "checkout"
        self.step = folder / "step"
        for path in (self.checkout / "log", self.step / "artefact", self.step / "out", folder / "bin"):
            path.mkdir(parents=True)
        (folder / "bin" / "ssh").write_text(SSH)
        (folder / "bin" / "ssh").chmod(0o755)
        self.configure('{"log_level": "debug"}')

    def configure(self, text: str) -> None:
        (self.checkout / "checkout.json").write_text(text)

    def run(self, script: str, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a script of the runbook as its step would."""
        here = self.folder / script
        text = (SCRIPTS / script).read_text()
        here.write_text(text.replace("/srv/checkout", str(self.checkout)).replace("/step/", f"{self.step}/"))
        argv = [sys.executable, str(here)] if script.endswith(".py") else ["sh", str(here)]
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [*argv, *args],
            env={"PATH": path, **(env or {})},
            cwd=self.step,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def fix(self, claims: str) -> subprocess.CompletedProcess[str]:
        """Run the step `fix` on these claims, and hand its artefact on."""
        (self.step / "claims.json").write_text(claims)
        done = self.run("fix.py")
        for path in (self.step / "out").iterdir():
            (self.step / "artefact" / path.name).write_bytes(path.read_bytes())
        return done

    def effects(self) -> list[str]:
        path = self.checkout / "effects.log"
        return path.read_text().splitlines() if path.exists() else []

    @contextmanager
    def service(self, *, old_release: bool = False) -> Iterator[Checkout]:
        """The real service, ticking without its sockets."""
        checkout = Checkout(self.checkout, "staging", pace_mb_s=1, takes_rotation=not old_release)
        checkout.load()
        over = threading.Event()

        def tick() -> None:
            while not over.wait(0.02):
                checkout.tick()

        thread = threading.Thread(target=tick)
        thread.start()
        try:
            yield checkout
        finally:
            over.set()
            thread.join()
