"""libvirt's logs: which are ours, what of them reaches a terminal, which are thrown away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.domain.errors import BadInput
from engine.runtime import logs
from engine.runtime.domain_xml import sign_of

OURS, THEIRS = sign_of("host-1"), sign_of("host-2")
NOW = 1_800_000_000.0
DAY = 24 * 3600


def log(folder: Path, name: str, sign: str, days: float) -> Path:
    """A log that was written so many days ago."""
    file = folder / name
    file.write_text(f'starting up\n-device \'{{"id":"{sign}"}}\'\n')
    os.utime(file, (NOW - days * DAY,) * 2)
    return file


def test_old_logs_of_ours_go_and_nothing_else_does(tmp_path: Path) -> None:
    """Not those of another installation, of a VM that is there, of a foreign domain, or that something links to."""
    old, rotated = log(tmp_path, "signalbox-a.log", OURS, 8), log(tmp_path, "signalbox-a.log.0", OURS, 8)
    outside = log(tmp_path.parent, "signalbox-outside.log", OURS, 8)
    kept = [
        log(tmp_path, "signalbox-young.log", OURS, 6),
        log(tmp_path, "signalbox-theirs.log", THEIRS, 800),
        log(tmp_path, "signalbox-lives.log", OURS, 800),
        log(tmp_path, "windows-server.log", OURS, 800),
        tmp_path / "signalbox-link.log",
    ]
    kept[-1].symlink_to(outside)

    assert logs.prune(tmp_path, OURS, {"signalbox-lives"}, NOW) == 2
    assert not old.exists()
    assert not rotated.exists()
    assert all(file.exists() for file in kept)
    assert outside.exists()


def test_of_very_many_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "KEPT", 2)
    files = [log(tmp_path, f"signalbox-{number}.log", OURS, number / 10) for number in range(4)]

    assert logs.prune(tmp_path, OURS, (), NOW) == 2
    assert [file.exists() for file in files] == [True, True, False, False]


def test_a_folder_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    assert logs.prune(tmp_path / "nowhere", OURS, (), NOW) == 0


def test_the_end_of_a_log_is_bounded_and_steers_no_terminal(tmp_path: Path) -> None:
    file = tmp_path / "signalbox-a.log"
    file.write_bytes(b"x" * logs.TAIL_BYTES + b"\nfirst\n\x1b[2Jwiped\x07 \xff\xe2\x80\xae\tend\n")

    assert logs.tail(file, 2) == ["first", "\\x1b[2Jwiped\\x07 \\xff\\u202e\tend"]
    assert sum(len(line.strip("x")) for line in logs.tail(file, 1000)) < 100
    assert len(logs.tail(file, 1000)) == 3, "the last 64 KiB only"


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no log"):
        logs.tail(tmp_path / "signalbox-a.log", 10)


@pytest.mark.parametrize(
    ("uri", "user", "folder"),
    [
        ("qemu:///system", 0, "/var/log/libvirt/qemu"),
        ("qemu:///system", 1000, "/var/log/libvirt/qemu"),
        ("qemu+unix:///system?socket=/x", 0, "/var/log/libvirt/qemu"),
        ("qemu:///session", 1000, "/home/ana/.cache/libvirt/qemu/log"),
        ("qemu:///session", 0, "/var/log/libvirt/qemu"),
        ("qemu+ssh://other/system", 0, None),
        ("test:///default", 0, None),
    ],
)
def test_where_they_lie(uri: str, user: int, folder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's session is the system's daemon."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("HOME", "/home/ana")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert logs.folder(uri) == (Path(folder) if folder else None)
