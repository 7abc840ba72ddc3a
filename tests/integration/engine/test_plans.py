"""A plan is made for one target: tested is what it would change, approved and applied is the plan itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import sqlalchemy as sa

from engine.domain.digest import of_bytes
from engine.domain.errors import Refused
from engine.domain.gate import DigestCheck
from engine.domain.journey import Role
from engine.domain.ports import Ending, TaskResult
from engine.domain.runbook import Access, ArtefactRule, GateStep, Runbook, Script, ScriptStep, Tool
from engine.domain.runners import Conclusion, Order
from engine.domain.states import ApprovalState, AttemptState, RunState
from engine.store import models
from tests.doubles.engine import FakeRunner
from tests.doubles.toy import toy_runbook
from tests.integration.engine.conftest import ANA, Box

MAIN = "volume/main.tf"


def _plan(step: ScriptStep, env: str) -> ScriptStep:
    return replace(
        step,
        id=f"plan-{env}",
        script=Script(file=MAIN, args=("plan",)),
        target=env,
        access=Access.READ,
        produces=ArtefactRule(name=f"plan-{env}"),
        output=None,
        tool=Tool.TERRAFORM,
    )


def runbook(*, compares: bool = True) -> Runbook:
    """Plan, apply to staging, plan, apply to production; `compares`: the gate before it has the digest check."""
    toy = toy_runbook()
    receive, diagnose, confirmed, _, staging, tested, production, healthy, close = toy.steps
    assert isinstance(diagnose, ScriptStep)
    assert isinstance(staging, ScriptStep)
    assert isinstance(production, ScriptStep)
    assert isinstance(confirmed, GateStep)
    assert isinstance(tested, GateStep)
    apply = Script(file=MAIN, args=("apply", "plan.tfplan"))
    same = tuple(check for check in tested.checks if compares and isinstance(check, DigestCheck))
    return replace(
        toy,
        steps=(
            receive,
            _plan(diagnose, "staging"),
            replace(confirmed, of="plan-staging"),
            replace(staging, script=apply, uses="plan-staging", tool=Tool.TERRAFORM),
            replace(tested, checks=tuple(check for check in tested.checks if not isinstance(check, DigestCheck))),
            _plan(diagnose, "production"),
            replace(confirmed, id="planned", of="plan-production", checks=(*confirmed.checks, *same)),
            replace(production, script=apply, uses="plan-production", tool=Tool.TERRAFORM),
            healthy,
            close,
        ),
    )


@dataclass
class PlanRunner(FakeRunner):
    """A plan is `TARGET|CHANGE`; its content is the change. `changes`: what is planned where."""

    changes: dict[str, str] = field(default_factory=lambda: {"staging": "40 to 60", "production": "40 to 60"})
    orders: list[Order] = field(default_factory=list)

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """See `Runner`."""
        step = order.leg.step
        assert isinstance(step, ScriptStep)
        artefact = f"{step.target}|{self.changes[step.target or '']}".encode() if step.produces else None
        return Conclusion(ok=result.ending is Ending.EXITED and result.code == 0, reason="", artefact=artefact)

    def content(self, step: ScriptStep, artefact: bytes) -> str:
        """See `Runner`."""
        return of_bytes(artefact.partition(b"|")[2])


@pytest.fixture
def runner(box: Box) -> PlanRunner:
    """The box plans and applies."""
    made = PlanRunner()
    box.shelf.runbook = runbook()
    box.shelf.files[MAIN] = b"# resources\n"
    box.runner = made
    box.adapters = replace(box.adapters, runner=made)
    box.start()
    return made


def test_each_target_has_its_own_plan_and_the_change_is_the_tested_one(box: Box, runner: PlanRunner) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()

    assert box.run().state is RunState.COMPLETED
    applied = [order for order in runner.orders if order.leg.script and order.leg.script.args[:1] == ("apply",)]
    assert [(order.leg.id, order.artefact) for order in applied] == [
        ("staging:rehearse", b"staging|40 to 60"),
        ("staging", b"staging|40 to 60"),
        ("production", b"production|40 to 60"),
    ]
    with box.database.reading() as session:
        rows = session.execute(
            sa.select(models.Attempt.leg, models.Attempt.content_digest, models.Attempt.order_digest)
        )
        digests = {leg: (content, order) for leg, content, order in rows}
    assert digests["staging"][0] == digests["production"][0]
    assert digests["staging"][1] != digests["production"][1]


def test_another_change_than_the_tested_one_stops_at_the_gate(box: Box, runner: PlanRunner) -> None:
    runner.changes["production"] = "50 to 60"
    box.fire()
    box.go()

    run = box.run()
    assert (run.state, run.leg) == (RunState.HALTED, "planned")
    assert "production" not in box.hypervisor.ran


def test_without_that_gate_the_machine_itself_refuses_it(box: Box, runner: PlanRunner) -> None:
    box.shelf.runbook = runbook(compares=False)
    runner.changes["production"] = "50 to 60"
    box.fire()
    box.go()

    run = box.run()
    assert (run.state, run.leg) == (RunState.HALTED, "production")
    assert "not what was tested" in run.escalations[-1].why
    assert "production" not in box.hypervisor.ran


def _swap_the_plan(box: Box) -> None:
    """Another plan file of the same change: made by somebody else, who can write the database."""
    other = b"production-by-mallory|40 to 60"
    with box.database.transaction() as session:
        session.add(models.Artefact(digest=of_bytes(other), data=other))
        mine = (models.Attempt.step == "plan-production") & (models.Attempt.state == AttemptState.FINISHED)
        session.execute(sa.update(models.Attempt).where(mine).values(artefact_digest=of_bytes(other)))


def test_another_plan_of_the_same_change_is_not_what_was_approved(box: Box, runner: PlanRunner) -> None:
    """The change is the same, so staging tested it; the yes was to these bytes."""
    token = box.until_approval()
    box.service.approve(token, ANA, yes=True)
    _swap_the_plan(box)
    box.go()

    run = box.run()
    assert run.approvals[-1].state is ApprovalState.VOIDED
    assert run.state is RunState.HALTED
    assert "production" not in box.hypervisor.ran


def test_nor_is_it_what_was_shown(box: Box, runner: PlanRunner) -> None:
    token = box.until_approval()
    _swap_the_plan(box)

    with pytest.raises(Refused, match="void"):
        box.service.approve(token, ANA, yes=True)
    assert "production" not in box.hypervisor.ran


def test_a_rollback_has_the_plan_whose_change_it_undoes(box: Box, runner: PlanRunner) -> None:
    box.fire()
    box.go()

    undone = [order for order in runner.orders if order.leg.role is Role.ROLLBACK]
    assert [order.artefact for order in undone] == [b"staging|40 to 60"]
