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
    user: str | None = None
    fsync: bool = False
    addresses: tuple[str, ...] = ("127.0.0.1",)
    preload: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    @contextlib.contextmanager
    def started(
        cls, *, fsync: bool = False, addresses: tuple[str, ...] = ("127.0.0.1",), preload: str = ""
    ) -> Iterator[Postgres]:
        """Start a server (as the user postgres when we are root: it refuses root), and stop it afterwards.

        `fsync`: as in earnest, so that what was committed survives `crash`. It trusts whoever reaches an address.
        `preload`: a library of the server's, e.g. pg_stat_statements.
        """
        folder = Path(tempfile.mkdtemp(prefix="signalbox-pg-"))
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        server = cls(free_port(), folder, user, fsync, addresses, preload)
        try:
            server._run(["initdb", "-D", str(server.data), "-A", "trust", "-U", "postgres", "--no-sync"])
            with (server.data / "pg_hba.conf").open("a") as rules:
                rules.writelines(f"host all all {address}/30 trust\n" for address in addresses)
            server.start()
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.crash()
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        """Where the server keeps everything."""
        return self.folder / "data"

    def start(self) -> None:
        """Start it, or start it again; returns when it answers."""
        listen = ",".join(self.addresses)
        options = f"-p {self.port} -k {self.folder} -c listen_addresses={listen} -c max_connections=200"
        options += f" -c fsync={'on' if self.fsync else 'off'}"
        if self.preload:
            options += f" -c shared_preload_libraries={self.preload}"
        self._run(["pg_ctl", "-D", str(self.data), "-o", options, "-w", "-l", str(self.folder / "log"), "start"])

    def crash(self) -> None:
        """The server dies as in a power cut: no check-point, no good-bye."""
        self._run(["pg_ctl", "-D", str(self.data), "-m", "immediate", "stop"])

    def _run(self, argv: list[str]) -> None:
        command = [str(_binaries() / argv[0]), *argv[1:]]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, user=self.user, cwd="/", stdout=quiet, stderr=quiet, timeout=60)

    def new_database(self) -> str:
        """Create an empty database; returns its URL."""
        name = f"test_{next(self.numbers)}"
        self.admin(f"CREATE DATABASE {name}")
        return f"{self._url}/{name}"

    def admin(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement of the server's owner; returns its rows."""
        engine = sa.create_engine(f"{self._url}/{database}", poolclass=sa.NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            result = connection.execute(sa.text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    @property
    def _url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}"
