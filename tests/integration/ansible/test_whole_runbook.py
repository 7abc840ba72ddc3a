"""`ansible-drift` on two real targets: to its end, past an edit after the test; halted where its playbook is bad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from demo.world import image as target_image
from demo.world.faults import Fault
from demo.world.target import Target as World
from engine.domain import image_names
from engine.domain.errors import Refused
from engine.domain.states import Decision, RunState, Verdict
from engine.runtime import image
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.ansible.scene import WANTED
from tests.integration.ansible.whole import Whole, installation, two_targets
from tests.integration.engine.conftest import ANA

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture
def targets(vm_images: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mapping[str, World]]:
    """Both, with the fault that the test is marked with."""
    fault = getattr(request, "param", Fault.NONE)
    image.build(image.spec_of(image_names.ANSIBLE), vm_images, progress=print)
    root = target_image.build(vm_images, progress=print)
    with two_targets(root, tmp_path, fault) as found:
        yield found


@pytest.fixture
def whole(targets: Mapping[str, World], hypervisor: LibvirtHypervisor, tmp_path: Path) -> Iterator[Whole]:
    with installation(targets, hypervisor, tmp_path) as made:
        yield made


def test_drift_is_mended_on_staging_and_then_on_production(whole: Whole) -> None:
    """What is edited after the test voids the yes; put back, it is measured and asked anew."""
    before = whole.targets["production"].tree()
    run = whole.go()
    assert run.state is RunState.AWAITING_APPROVAL, [one.why for one in run.escalations]
    assert whole.config("staging") == WANTED
    assert whole.targets["production"].tree() == before
    assert "--- files/checkout.json" in run.approvals[-1].order.preview  # who approves sees what will be applied

    whole.edit("ansible-drift/play/site.yml", "name: Settings", "name: Setting")
    with pytest.raises(Refused):
        whole.service.approve(run.approvals[-1].token, ANA, yes=True)
    assert whole.run().state is RunState.HALTED
    assert whole.targets["production"].tree() == before

    whole.edit("ansible-drift/play/site.yml", "name: Setting\n", "name: Settings\n")
    whole.service.decide(whole.run().escalations[-1].token, ANA, Decision.RETRY)
    run = whole.go()
    assert run.state is RunState.AWAITING_APPROVAL, [one.why for one in run.escalations]
    whole.service.approve(run.approvals[-1].token, ANA, yes=True)
    run = whole.go()

    assert run.state is RunState.COMPLETED, [one.why for one in run.escalations]
    assert whole.config("production") == WANTED
    assert {verdict.verdict for verdict in run.verdicts} == {Verdict.HELD}


def test_a_playbook_that_leaves_the_file_open_to_all_halts_at_the_gate(whole: Whole) -> None:
    before = whole.targets["production"].tree()
    whole.edit(
        "ansible-drift/play/site.yml", 'dest: "{{ config }}", mode: "0664"', 'dest: "{{ config }}", mode: "0666"'
    )

    run = whole.go()

    assert (run.state, run.leg) == (RunState.HALTED, "tests-pass"), [one.why for one in run.escalations]
    assert whole.targets["production"].tree() == before
    assert [attempt.leg for attempt in run.attempts][-1] == "staging"


@pytest.mark.parametrize("targets", [Fault.PRODUCTION], indirect=True)
def test_what_production_does_not_take_is_undone_by_a_persons_decision(whole: Whole) -> None:
    """Production runs an older release, which does not know one of the settings: its gate says so."""
    before = whole.config("production")
    run = whole.go()
    assert run.state is RunState.AWAITING_APPROVAL, [one.why for one in run.escalations]
    whole.service.approve(run.approvals[-1].token, ANA, yes=True)
    run = whole.go()
    assert (run.state, run.leg) == (RunState.HALTED, "production-healthy"), [one.why for one in run.escalations]
    assert whole.config("production") == WANTED

    whole.service.decide(run.escalations[-1].token, ANA, Decision.ROLL_BACK)
    run = whole.go()

    assert run.state is RunState.ROLLED_BACK, [one.why for one in run.escalations]
    assert whole.config("production") == before
