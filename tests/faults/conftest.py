"""A Postgres as in earnest (fsync on) for the tests of faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real Postgres of this test run's own, whose commits survive a crash."""
    with Postgres.started(fsync=True) as server:
        yield server
