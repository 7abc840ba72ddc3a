"""Somebody tampers with what was approved: each way, undone when the block ends. `demo.plays` uses them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from demo.stage import Stage
from engine.domain.errors import Unavailable
from engine.store.session import Database

Tamper = Callable[[Stage], AbstractContextManager[None]]


@contextmanager
def vault_away(stage: Stage) -> Iterator[None]:
    """OpenBao stops answering for a while."""
    pids = [
        int(pid)
        for pid in subprocess.run(["pgrep", "-x", "bao"], capture_output=True, text=True, check=False).stdout.split()
    ]
    ours = [pid for pid in pids if str(stage.home) in Path(f"/proc/{pid}/cmdline").read_text()]
    if not ours:
        raise Unavailable("OpenBao's process was not found", "does signalbox run?")
    for pid in ours:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in ours:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _edited(stage: Stage, table: str, column: str, value: Any) -> Iterator[None]:
    """Somebody edits the database behind our back, and puts it back."""
    database = Database(f"sqlite:///{stage.home / 'signalbox.db'}")
    connection = database.engine.raw_connection()
    try:
        rows = connection.cursor().execute(f"SELECT rowid, {column} FROM {table}").fetchall()  # noqa: S608  # our names
        cursor = connection.cursor()
        cursor.execute(f"UPDATE {table} SET {column} = ?", (value,))  # noqa: S608  # our names
        try:
            yield
        finally:
            for rowid, old in rows:
                cursor.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (old, rowid))  # noqa: S608  # ours
    finally:
        connection.close()
        database.close()


def artefact(stage: Stage) -> AbstractContextManager[None]:
    """The fix itself is another one."""
    return _edited(stage, "artefact", "data", b"another fix")


def arguments(stage: Stage) -> AbstractContextManager[None]:
    """It would work on another folder."""
    return _edited(stage, "run", "inputs", '{"env": "production", "mount": "/etc"}')


@contextmanager
def image(stage: Stage) -> Iterator[None]:
    """The VM that applies it is another one."""
    root = stage.step_images / "step" / "rootfs.erofs"
    kept = root.with_suffix(".kept")
    root.rename(kept)
    root.write_bytes(kept.read_bytes() + b"\0")
    try:
        yield
    finally:
        kept.replace(root)


@contextmanager
def runbook(stage: Stage) -> Iterator[None]:
    """The runbook's file is another one, by one comment."""
    path = stage.runbooks / f"{stage.runbook}.yaml"
    text = path.read_text()
    path.write_text(text + "\n# and a little more\n")
    try:
        yield
    finally:
        path.write_text(text)


WAYS: tuple[Tamper, ...] = (artefact, arguments, image, runbook)
