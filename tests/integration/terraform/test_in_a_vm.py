"""Terraform steps in VMs of their own: an image with terraform as an operator brings one, and a cloud to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.domain.directory import Site
from engine.domain.ports import Reach, SecretValue
from engine.domain.runners import Conclusion, Order
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.terraform.bench import CONFIG, OPERATOR, READER, RUNNER, apply_step, order, plan_step, target
from tests.plugins_vm import Plain
from tests.services import terraform
from tests.services.volumes.service import Volumes, serving

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(900)]  # needs terraform, which no package has

PORT = 8080
URL = f"http://{target('staging').host}:{PORT}"
FILES = {f"volume/{path.name}": path.read_bytes() for path in CONFIG.iterdir()}


@pytest.fixture(scope="module")
def with_image(hypervisor: LibvirtHypervisor, vm_images: Path) -> LibvirtHypervisor:
    """A hypervisor that has the image `terraform`."""
    terraform.build(vm_images)
    return hypervisor


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    """Staging, without any volume."""
    with serving(Volumes(tmp_path / "volumes", READER, OPERATOR)) as found:
        yield found


def _do(hypervisor: LibvirtHypervisor, volumes: Volumes, made: Order, word: str, name: str) -> Conclusion:
    reach = Reach(
        host=made.target.host if made.target else "", port=PORT, address="127.0.0.1", address_port=volumes.port
    )
    made = replace(made, attempt_id=name, reaches=(reach,), site=Site(name=reach.host))
    result = hypervisor.run(RUNNER.task(made, (SecretValue(name="word", value=word),)), Plain(), print)
    return RUNNER.conclude(made, result)


def test_a_plan_is_made_in_one_vm_and_applied_in_another(with_image: LibvirtHypervisor, volumes: Volumes) -> None:
    """The state lies on the target, the provider in the image, the words in the VM's memory only."""
    made = order(plan_step("staging", URL, size_gb=40), FILES)
    planned = _do(with_image, volumes, made, READER, "tf-plan")
    assert planned.reason == ""
    assert planned.output == {"add": 1, "change": 0, "destroy": 0, "replace": 0, "drift": []}
    assert volumes.writes == []

    applied = _do(
        with_image, volumes, order(apply_step("staging"), FILES, artefact=planned.artefact), OPERATOR, "tf-apply"
    )

    assert applied.reason == ""
    assert volumes.size_gb("log") == 40
    assert (volumes.writes, volumes.refused, volumes.lock) == (["log 40"], [], b"")
    assert OPERATOR.encode() not in volumes.state
