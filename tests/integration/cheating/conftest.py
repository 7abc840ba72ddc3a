"""An installation on a database of its own. SQLite is enough: Postgres is shown beside the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.engine.conftest import box
from tests.plugins_vm import hypervisor, vm_images

__all__ = ["box", "hypervisor", "vm_images"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An empty database."""
    return f"sqlite:///{tmp_path / 'test.db'}"
