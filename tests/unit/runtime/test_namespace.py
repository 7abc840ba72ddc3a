"""What a plain user lacks to build an image is said, with both ways out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.domain.errors import Unavailable
from engine.runtime import namespace


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of the machine who is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)


@pytest.fixture
def search(tmp_path: Path) -> str:
    """A PATH with newuidmap."""
    program = tmp_path / "newuidmap"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return str(tmp_path)


def test_without_newuidmap(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="newuidmap is not installed") as caught:
        namespace.check(str(tmp_path))
    assert "apt-get install uidmap" in caught.value.remedy
    assert "or build once as root" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "somebody:100000:65536\n"])
def test_without_ids_of_its_own(text: str, search: str, tmp_path: Path) -> None:
    ids = tmp_path / "subuid"
    ids.write_text(text)
    with pytest.raises(Unavailable, match="gives nobody no ids") as caught:
        namespace.check(search, (ids,))
    assert "usermod --add-subuids" in caught.value.remedy
    assert "or build once as root" in caught.value.remedy
    with pytest.raises(Unavailable):
        namespace.check(search, (tmp_path / "no-such-file",))


@pytest.mark.parametrize("who", ["nobody", "65534"])
def test_with_both(who: str, search: str, tmp_path: Path) -> None:
    ids = tmp_path / "subuid"
    ids.write_text(f"somebody:1:1\n{who}:100000:65536\n")
    namespace.check(search, (ids, ids))


def test_root_needs_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    namespace.check(str(tmp_path), (tmp_path / "no-such-file",))
