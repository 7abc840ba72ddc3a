"""`signalbox web` and `signalbox worker` as processes, each as its role, after what the README says was done."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from engine.secrets.embedded import EmbeddedBao
from engine.store import grants
from tests.architecture.sources import REPOSITORY
from tests.integration.roles.conftest import OWNER, Roles
from tests.services.postgres import free_port

pytestmark = pytest.mark.timeout(240)
UP_S = 60
STOP_S = 60
LOOKED_S = 0.1


def environ(home: Path, url: str, **more: str) -> dict[str, str]:
    """Of a process of ours, and nobody else's variables."""
    names = {"HOME": str(home), "DATABASE_URL": url, "RUNBOOKS": str(REPOSITORY / "runbooks"), **more}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)} | {
        f"SIGNALBOX_{name}": value for name, value in names.items()
    }


def said(env: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    """What a command printed."""
    command = [sys.executable, "-m", "bot.main", *argv]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=UP_S, check=False)


@contextlib.contextmanager
def process(env: dict[str, str], log: Path, command: str, is_up: Callable[[], bool]) -> Iterator[None]:
    """A process, from when it is up until it ended by SIGTERM."""
    with log.open("wb") as out:
        running = subprocess.Popen([sys.executable, "-m", "bot.main", command], env=env, stdout=out, stderr=out)
    try:
        deadline, look = time.monotonic() + UP_S, threading.Event()
        while not is_up():
            if running.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command} did not come up: {log.read_text()[-2000:]}")
            look.wait(LOOKED_S)
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(STOP_S) == 0, log.read_text()[-2000:]


def test_migrate_grants_web_and_worker(roles: Roles, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    as_owner = environ(tmp_path / "owner", roles.of(OWNER))
    assert said(as_owner, "migrate").returncode == 0
    script = said(as_owner, "database", "grants")
    assert script.stderr == ""
    assert roles.psql(script.stdout).returncode == 0
    assert roles.psql(script.stdout).returncode == 0, "repeatable"

    def serves() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"http://{listen}/", timeout=5).ok
        return False

    engine = sa.create_engine(roles.of(OWNER))

    def has_joined() -> bool:
        with engine.connect() as connection:
            return bool(connection.scalar(sa.text("SELECT count(*) FROM worker WHERE ended_at IS NULL")))

    web = environ(tmp_path / "web", roles.of(grants.BOT), LISTEN=listen)
    bao = EmbeddedBao(Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp")) / "bao")  # a socket's path is short
    bao.start()
    vault = {"VAULT_ADDR": bao.connection().shown, "VAULT_SECRET_ID": bao.connection().secret_id}
    worker = environ(tmp_path / "worker", roles.of(grants.WORKER), **vault)
    logs = tmp_path / "web.log", tmp_path / "worker.log"
    with process(web, logs[0], "web", serves), process(worker, logs[1], "worker", has_joined):
        assert requests.get(f"http://{listen}/healthz", timeout=10).json() is not None
    assert not has_joined(), "it left in good order"
    engine.dispose()
    bao.stop()

    for log in logs:
        assert "permission denied" not in log.read_text()
        assert "Traceback" not in log.read_text()


def test_a_bot_that_migrates_is_told_who_does(roles: Roles, tmp_path: Path) -> None:
    told = said(environ(tmp_path / "bot", roles.of(grants.BOT)), "migrate")

    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    assert "as the owner" in told.stderr


def test_the_names_are_yours_to_choose(tmp_path: Path) -> None:
    env = environ(tmp_path / "home", "postgresql+psycopg://me@db.example/incidents")
    script = said(env, "database", "grants", "--bot", "asks", "--worker", "drives").stdout

    assert 'ON DATABASE "incidents" TO "asks", "drives"' in script
    assert grants.BOT not in script
    other = said(env, "database", "grants", "--database", "other")
    assert 'ON DATABASE "other"' in other.stdout
