"""Runs of the library's runbooks on real targets. What they came to is written to RUNBOOKS_REPORT, if that is set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.library import report
from tests.library.report import Row
from tests.plugins_vm import vm_images

__all__ = ["vm_images"]


@pytest.fixture(scope="session")
def rows() -> Iterator[list[Row]]:
    """Every run that was told; the page is written at the end."""
    told: list[Row] = []
    yield told
    path = os.environ.get(report.WRITTEN_TO)
    if path and told:
        Path(path).write_text(report.table(told))
