"""On what was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

LIBRARIES = ("sqlalchemy", "psycopg", "procrastinate", "dbos")
ROOT = Path(__file__).parents[1]


def described(folder: Path, postgres_url: str) -> Mapping[str, str]:
    """What the report says of the machine; `folder`: where the databases lie."""
    return {
        "Commit": _commit(),
        "Processor": f"{_first('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "Memory": f"{int(_first('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.1f} GiB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "One fsync of 4 KiB, median": f"{_fsync_s(folder) * 1000:.2f} ms",
        "Python": platform.python_version(),
        "PostgreSQL": _server_version(postgres_url),
        "SQLite": sqlite3.sqlite_version,
        "Libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
    }


def load() -> str:
    """The load average of the last minute: others may work on this machine."""
    return f"{os.getloadavg()[0]:.1f}"


def _commit() -> str:
    def git(*argv: str) -> str:
        found = subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=False)
        return found.stdout.strip()

    changed = " and changes that are not committed" if git("status", "--porcelain", "--", "engine", "bench") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _first(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0 unknown"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _server_version(url: str) -> str:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        version = str(connection.exec_driver_sql("SHOW server_version").scalar_one())
    engine.dispose()
    return version


def _fsync_s(folder: Path, times: int = 100) -> float:
    path, taken = folder / "fsync", []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(times):
            os.write(descriptor, b"x" * 4096)
            begun = time.perf_counter()
            os.fsync(descriptor)
            taken.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(taken)
