"""Each test edits a runbook of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.proving.folders import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A copy of the repository's runbooks."""
    return Folder.copied(tmp_path)
