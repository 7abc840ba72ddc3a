"""SIGTERM: a worker that stops leaves no VM, neither at work, nor in the pool, nor one that boots for it just now."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.domain.ports import SecretValue, VmTask
from engine.domain.runners import Order
from engine.domain.states import RunState
from engine.orchestration.adapters import Adapters
from engine.orchestration.carriers import Local
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.output import NoSecrets
from engine.store import migrate
from engine.store.session import Database
from tests.doubles.engine import (
    FakeClock,
    FakeGates,
    FakeGrant,
    FakeHypervisor,
    FakeProbeRunner,
    FakeRunner,
    FakeSecrets,
    FakeShelf,
    FakeTrigger,
)
from tests.doubles.toy import directory
from tests.integration.engine.conftest import Box, postgres, url
from tests.integration.runtime.harness import eventually
from tests.plugins_vm import URI

__all__ = ["postgres", "url"]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

OWNER = f"stop-{os.getpid()}"


class Sleeper(FakeRunner):
    """Its steps do not end by themselves."""

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        return replace(super().task(order, secrets), argv=("sleep", "300"), timeout_s=400)


class Plain(FakeSecrets):
    """Its grants redact what a VM really prints."""

    def open(self, **asked: Any) -> FakeGrant:
        return replace(super().open(**asked), redactor=NoSecrets())


@pytest.fixture
def hypervisor(vm_images: Path) -> Iterator[LibvirtHypervisor]:
    made = LibvirtHypervisor(URI, vm_images, OWNER, "tcg", "test-1", warm=1)
    yield made
    made.close()
    made.sweep()


@pytest.fixture
def working(url: str, hypervisor: LibvirtHypervisor) -> Iterator[Box]:
    """The real worker with real VMs; the rest are fakes."""
    database = Database(url)
    migrate.upgrade(database)
    clock, shelf, gates, places, secrets = FakeClock(), FakeShelf(), FakeGates(), directory(), Plain()
    adapters = Adapters(
        clock=clock,
        triggers={"fake": FakeTrigger()},
        shelf=shelf,
        hypervisor=hypervisor,
        runner=Sleeper(),
        probe_runner=FakeProbeRunner(),
        secrets=secrets,
        gate_kinds=gates.kinds,
        directory=lambda: places,
    )
    box = Box(database, clock, shelf, FakeHypervisor(), FakeRunner(), secrets, gates, places, adapters)
    box.start()
    box.worker.carrier = lambda drive: Local(database, 1, drive)  # on both: what wakes it is of no interest here
    yield box
    database.close()


def test_a_step_at_work_and_a_vm_of_the_pool_end_with_the_worker(working: Box, hypervisor: LibvirtHypervisor) -> None:
    """As `signalbox worker` does it on SIGTERM when the time for draining is over; the run halts and asks."""
    working.worker.start()
    hypervisor.keep_warm()
    working.fire()
    threading.Thread(target=working.driver.woken, args=(working.run().id,), daemon=True).start()
    eventually(lambda: any(found.mark.run == working.run().id for found in hypervisor._ours()), 200, "a step at work")
    eventually(lambda: hypervisor.warm() == 1, 200, "one that waits")
    assert len(hypervisor._ours()) == 2

    working.worker.stop(0)
    left = [found for found in hypervisor._ours() if not found.mark.waits]
    hypervisor.close()

    assert left == []
    assert hypervisor._ours() == []
    assert working.run().state is RunState.HALTED


def test_a_vm_that_boots_for_the_pool_ends_too(hypervisor: LibvirtHypervisor) -> None:
    hypervisor.keep_warm()
    eventually(hypervisor._ours, 60, "it boots")
    assert hypervisor.warm() == 0

    hypervisor.close()

    assert hypervisor._ours() == []
