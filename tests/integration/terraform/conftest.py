"""A small cloud, and Terraform to change it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.terraform.bench import CONFIG, OPERATOR, READER, Bench
from tests.integration.terraform.on_this_host import OnThisHost
from tests.plugins_vm import hypervisor, vm_images
from tests.services.volumes.service import Volumes, serving

__all__ = ["bench", "hypervisor", "vm_images"]


@contextmanager
def _bench(tmp_path: Path) -> Iterator[Bench]:
    with serving(Volumes(tmp_path / "volumes", READER, OPERATOR)) as volumes:
        files = {f"volume/{path.name}": path.read_bytes() for path in CONFIG.iterdir()}
        yield Bench(OnThisHost(tmp_path), volumes, files=files)


@pytest.fixture(scope="session")
def first_state(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Terraform's state after it made a volume `log` of 40 GB."""
    with _bench(tmp_path_factory.mktemp("first")) as made:
        planned = made.plan(size_gb=40)
        assert planned.ok, planned.reason
        assert made.apply(planned.artefact).reason == ""
        assert made.volumes.size_gb("log") == 40
        return made.volumes.state


@pytest.fixture
def bench(tmp_path: Path, first_state: bytes) -> Iterator[Bench]:
    """A volume `log` of 40 GB, made by Terraform, and whoever changes it."""
    with _bench(tmp_path) as made:
        made.volumes.state = first_state
        made.volumes.resize("log", 40)
        yield made
