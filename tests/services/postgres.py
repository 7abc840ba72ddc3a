"""A real Postgres, started for a test run in a temporary folder, on a unix socket and a free port."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

INSTALL = "apt-get install postgresql  (or: scripts/setup.sh test)"


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail(f"this test needs PostgreSQL's server: {INSTALL}")
    return found[-1].parent


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Postgres:
    """A running server. Databases made in it are dropped with it."""

    port: int
    folder: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    @contextlib.contextmanager
    def started(cls, settings: tuple[str, ...] = ("fsync=off",)) -> Iterator[Postgres]:
        """Start a server (as the user postgres when we are root: it refuses root), and stop it afterwards."""
        binaries, port = _binaries(), free_port()
        folder = Path(tempfile.mkdtemp(prefix="signalbox-pg-"))
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        data = folder / "data"
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 "
        options += " ".join(f"-c {setting}" for setting in settings)
        start = ["pg_ctl", "-D", str(data), "-o", options, "-w", "-l", str(folder / "log"), "start"]
        try:
            cls._run(binaries, ["initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync"], user)
            cls._run(binaries, start, user)
            yield cls(port=port, folder=folder)
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                cls._run(binaries, ["pg_ctl", "-D", str(data), "-m", "immediate", "stop"], user)
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _run(binaries: Path, argv: list[str], user: str | None) -> None:
        command = [str(binaries / argv[0]), *argv[1:]]
        subprocess.run(
            command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60
        )

    def new_database(self) -> str:
        """Create an empty database; returns its URL."""
        name = f"test_{next(self.numbers)}"
        admin = sa.create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres")
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"
