"""Everything that a run leaves somewhere, as places for the finder."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from engine.domain import archive
from tests.acceptance.finder import Kind, Place

LIBVIRT_LOGS = Path("/var/log/libvirt")
BETWEEN = b"\n\0\n"


def database(path: Path) -> Iterator[Place]:
    """Every value of every column: in the file, a long one is torn by page headers."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608  # names of our own tables
            columns = [column[0] for column in rows.description]
            found: dict[str, list[bytes]] = {column: [] for column in columns}
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    found[column].append(value if isinstance(value, bytes) else str(value).encode())
            for column, values in found.items():
                yield Place(Kind.DATABASE, f"{table}.{column}", BETWEEN.join(values))


def artefacts(path: Path) -> Iterator[Place]:
    """Each artefact as it is kept, and each file in it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for digest, data in connection.execute("SELECT digest, data FROM artefact"):
            yield Place(Kind.ARTEFACT, digest, data)
            for name, content in archive.unpack(data).items():
                yield Place(Kind.ARTEFACT, f"{digest} {name}", content)


def files(folder: Path, but: Collection[str], *, since: float = 0) -> Iterator[Place]:
    """Every file under `folder`; `but` are patterns of paths, relative to it, that are not looked at."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        try:
            if any(name.match(pattern) for pattern in but) or not path.is_file() or path.stat().st_mtime < since:
                continue
            yield Place(_kind(path), str(name), path.read_bytes())
        except FileNotFoundError:
            continue  # Prometheus tidies up


def libvirt_logs(since: float) -> Iterator[Place]:
    """What libvirt and QEMU wrote about VMs."""
    for place in files(LIBVIRT_LOGS, (), since=since):
        yield Place(Kind.LIBVIRT_LOG, place.name, place.content)


def _kind(path: Path) -> Kind:
    if path.name.startswith("signalbox.db"):
        return Kind.DATABASE_FILE
    return Kind.OUR_LOG if path.name in ("signalbox.log", "workspace.log") else Kind.FILE
