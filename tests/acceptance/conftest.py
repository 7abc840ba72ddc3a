"""The happy play, told once for all tests that want to know something of it; six minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.story import Story, tell
from tests.plugins_vm import vm_images

__all__ = ["vm_images"]


@pytest.fixture(scope="session")
def story(vm_images: Path) -> Story:
    """What was recorded of it."""
    return tell()
