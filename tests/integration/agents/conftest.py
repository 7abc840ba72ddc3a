"""A provider of models that answers at once, and real VMs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.agents.doors import PATHS
from tests.integration.agents.provider import Provider, whole
from tests.plugins_vm import hypervisor, vm_images

__all__ = ["hypervisor", "provider", "vm_images"]


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Answers in the wire format of the path that it was asked by."""
    formats = {path: api for api, path in PATHS.items()}
    with Provider(lambda asked: whole(formats[asked.path])).running() as made:
        yield made
