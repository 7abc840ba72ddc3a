"""A real target with sshd, and the image that has Ansible."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.world import image as target_image
from demo.world import target as world
from demo.world.faults import Fault
from engine.domain import image_names
from engine.runtime import image
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.ansible.scene import Scene, free_port
from tests.integration.runtime.harness import eventually
from tests.plugins_vm import hypervisor, vm_images

__all__ = ["hypervisor", "vm_images"]


@pytest.fixture(scope="module")
def scene(vm_images: Path, hypervisor: LibvirtHypervisor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A target that is up. Its checkout.json says `debug`, which is not what the playbook says."""
    image.build(image.spec_of(image_names.ANSIBLE), vm_images, progress=print)
    root = target_image.build(vm_images, progress=print)
    folder = tmp_path_factory.mktemp("world") / "staging"
    made = world.prepare(world.STAGING, folder, root, world.checkout(Fault.NONE), (free_port(), free_port()))
    with subprocess.Popen(world.argv(made, root, "tcg")) as process:
        try:
            eventually(made.ready, 200, "the target answers")
            yield Scene(made, hypervisor)
        finally:
            process.kill()
