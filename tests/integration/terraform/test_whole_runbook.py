"""`terraform-change` from the request to production, and halted where it must be; production is what is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from engine.domain.errors import Refused
from engine.domain.incident import RunView
from engine.domain.states import ApprovalState, Decision, RunState, Verdict
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.store import models
from tests.integration.engine.conftest import ANA
from tests.integration.terraform.on_this_host import OnThisHost
from tests.integration.terraform.whole import Whole, environments, host, installation
from tests.services import terraform
from tests.services.volumes.service import proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # needs terraform, which no package has


@pytest.fixture
def whole(tmp_path: Path, first_state: bytes) -> Iterator[Whole]:
    """Everything but VMs: steps run on this host, and find the environments by a proxy."""
    with (
        environments(tmp_path, first_state) as volumes,
        proxy({host(env): made for env, made in volumes.items()}) as port,
        installation(volumes, OnThisHost(tmp_path, {"http_proxy": f"http://127.0.0.1:{port}"}), tmp_path) as made,
    ):
        yield made


def _verdict(run: RunView, gate: str) -> str:
    (found,) = [verdict for verdict in run.verdicts if verdict.leg == gate][-1:]
    assert found.verdict is not Verdict.HELD
    return " ".join(check.why for check in found.checks)


def _approved(whole: Whole, run: RunView) -> None:
    """The question says what would change; after the yes it is so, and nothing else happened."""
    assert run.state is RunState.AWAITING_APPROVAL, [one.why for one in run.escalations]
    assert whole.sizes() == (60, 40)
    assert run.approvals[-1].order.preview == (
        "0 to add, 1 to change, 0 to destroy, 0 to replace\nupdate volumes_volume.log\n    size_gb: 40 -> 60"
    )
    whole.service.approve(run.approvals[-1].token, ANA, yes=True)
    run = whole.go()

    assert run.state is RunState.COMPLETED, run.escalations
    assert whole.sizes() == (60, 60)
    assert whole.volumes["staging"].writes == ["log 60", "log 40", "log 60"]
    assert whole.volumes["production"].writes == ["log 60"]
    assert [made.refused for made in whole.volumes.values()] == [[], []]


def test_a_request_becomes_a_tested_and_approved_change(whole: Whole) -> None:
    _approved(whole, whole.ask())
    assert {verdict.verdict for verdict in whole.run().verdicts} == {Verdict.HELD}


@pytest.fixture
def in_vms(hypervisor: LibvirtHypervisor, vm_images: Path, tmp_path: Path, first_state: bytes) -> Iterator[Whole]:
    """Every step in a VM of its own, which reaches its environment only."""
    terraform.build(vm_images)
    with environments(tmp_path, first_state) as volumes, installation(volumes, hypervisor, tmp_path) as made:
        yield made


@pytest.mark.vm
@pytest.mark.timeout(1800)
def test_in_vms_it_comes_to_its_end_and_an_edit_after_the_test_is_refused(in_vms: Whole) -> None:
    """What is edited voids the yes; put back, the gate is measured and the question asked anew."""
    main = in_vms.runbooks / "terraform-change" / "volume" / "main.tf"
    text = main.read_text()
    run = in_vms.ask()
    assert run.state is RunState.AWAITING_APPROVAL, [one.why for one in run.escalations]
    _configuration(in_vms)
    with pytest.raises(Refused, match="void"):
        in_vms.service.approve(run.approvals[-1].token, ANA, yes=True)
    assert in_vms.volumes["production"].writes == []

    main.write_text(text)
    in_vms.service.decide(in_vms.run().escalations[-1].token, ANA, Decision.RETRY)
    _approved(in_vms, in_vms.go())


@pytest.mark.vm
@pytest.mark.timeout(900)
def test_in_vms_growth_and_drift_halt_before_anything_is_applied(in_vms: Whole) -> None:
    in_vms.volumes["staging"].resize("log", 45)

    run = in_vms.ask(size_gb="91")

    assert (run.state, run.leg) == (RunState.HALTED, "staging-planned"), run.escalations
    for broken in ("growth is broken", "no-drift is broken"):
        assert broken in _verdict(run, "staging-planned")
    assert in_vms.sizes() == (45, 40)
    assert [made.writes for made in in_vms.volumes.values()] == [[], []]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"size_gb": "81"}, "growth is broken"),
        pytest.param({"size_gb": "39"}, "no-shrinking is broken"),
        ({"tier": "fast"}, "in-place is broken"),
        pytest.param({"size_gb": "40"}, "one-volume is broken"),
    ],
)
def test_what_the_policy_does_not_allow_is_not_even_done_to_staging(
    whole: Whole, request_: dict[str, str], why: str
) -> None:
    run = whole.ask(**request_)

    assert (run.state, run.leg) == (RunState.HALTED, "staging-planned"), run.escalations
    assert why in _verdict(run, "staging-planned")
    assert whole.sizes() == (40, 40)
    assert [made.writes for made in whole.volumes.values()] == [[], []]


def test_a_request_that_allows_it_may_replace(whole: Whole) -> None:
    """The bound is the request's own word, and a person's yes."""
    run = whole.ask(tier="fast", allow_replace="yes")

    assert run.state is RunState.AWAITING_APPROVAL, run.escalations
    assert "delete then create volumes_volume.log" in run.approvals[-1].order.preview
    assert whole.volumes["staging"].tiers["log"] == "fast"
    assert whole.volumes["production"].writes == []


@pytest.mark.parametrize(
    ("request_", "leg"),
    [({"size_gb": "2001"}, "request"), ({"size_gb": "9999"}, "request"), ({"was_gb": "50"}, "request-fits")],
)
def test_a_request_that_is_none_or_does_not_fit_the_world_plans_nothing(
    whole: Whole, request_: dict[str, str], leg: str
) -> None:
    run = whole.ask(**request_)

    assert (run.state, run.leg) == (RunState.HALTED, leg), run.escalations
    assert whole.sizes() == (40, 40)


def test_what_changed_outside_of_terraform_halts_before_anything_is_applied(whole: Whole) -> None:
    """On staging before the first apply; the gate says what it was and what it is."""
    whole.volumes["staging"].resize("log", 45)

    run = whole.ask()

    assert (run.state, run.leg) == (RunState.HALTED, "staging-planned"), run.escalations
    assert "no-drift is broken" in _verdict(run, "staging-planned")
    assert whole.sizes() == (45, 40)


def test_production_that_drifted_meanwhile_is_not_what_was_tested(whole: Whole) -> None:
    """The world changes between the request and the plan of production: policy, content and measure each say so."""
    staging = whole.volumes["staging"]
    resize = staging.resize

    def and_production_drifts(name: str, size_gb: int) -> None:
        resize(name, size_gb)
        whole.volumes["production"].resize("log", 45)

    staging.resize = and_production_drifts  # type: ignore[method-assign]
    run = whole.ask()

    assert (run.state, run.leg) == (RunState.HALTED, "production-planned"), run.escalations
    assert "no-drift is broken" in _verdict(run, "production-planned")
    assert whole.sizes() == (60, 45)
    assert whole.volumes["production"].writes == []


def _configuration(whole: Whole) -> None:
    main = whole.runbooks / "terraform-change" / "volume" / "main.tf"
    main.write_text(main.read_text().replace("size_gb = var.size_gb\n", "size_gb = 10 * var.size_gb\n"))


def _lock_file(whole: Whole) -> None:
    (whole.runbooks / "terraform-change" / "volume" / "terraform.lock.hcl").write_text("# any provider\n")


def _policy(whole: Whole) -> None:
    file = whole.runbooks / "terraform-change.yaml"
    file.write_text(file.read_text().replace("<= 2 * c.before.size_gb", "<= 20 * c.before.size_gb"))


def _plan_file(whole: Whole) -> None:
    with whole.database.transaction() as session:
        session.execute(sa.update(models.Artefact).values(data=b"another plan"))


TAMPERINGS = (_configuration, _plan_file, _lock_file, _policy)


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_what_is_changed_after_the_test_on_staging_is_refused(whole: Whole, tamper: Callable[[Whole], None]) -> None:
    run = whole.ask()
    assert run.state is RunState.AWAITING_APPROVAL, run.escalations
    tamper(whole)

    with pytest.raises(Refused, match="void"):
        whole.service.approve(run.approvals[-1].token, ANA, yes=True)

    run = whole.go()
    assert (run.state, run.approvals[-1].state) == (RunState.HALTED, ApprovalState.VOIDED)
    assert whole.sizes() == (60, 40)
    assert whole.volumes["production"].writes == []


def test_a_rollback_by_decision_brings_production_back(whole: Whole) -> None:
    """Somebody resizes production right after the apply: its gate does not hold, and a person rolls back."""
    run = whole.ask()
    production = whole.volumes["production"]
    resize = production.resize

    def but_smaller(name: str, size_gb: int) -> None:
        resize(name, 45 if size_gb == 60 else size_gb)

    production.resize = but_smaller  # type: ignore[method-assign]
    whole.service.approve(run.approvals[-1].token, ANA, yes=True)
    run = whole.go()
    assert (run.state, run.leg) == (RunState.HALTED, "production"), run.escalations
    assert "it did not stay" in run.escalations[-1].why

    whole.service.decide(run.escalations[-1].token, ANA, Decision.ROLL_BACK)
    run = whole.go()

    assert run.state is RunState.ROLLED_BACK, run.escalations
    assert whole.sizes() == (60, 40)
