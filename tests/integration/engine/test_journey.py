"""A run from alert to close, and every way in which it must stop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from engine.domain.errors import Unavailable
from engine.domain.ports import Ending, TaskResult
from engine.domain.states import AttemptState, Decision, IncidentState, RunState, Verdict
from engine.store import models, runs
from tests.doubles.engine import ended
from tests.integration.engine.conftest import ANA, BEN, Box


def test_the_whole_line_is_travelled_in_order_and_production_comes_last(box: Box) -> None:
    token = box.until_approval()

    assert box.hypervisor.ran == [
        "diagnose",
        "fix",
        "staging:rehearse",
        "staging:rollback",
        "staging",
    ]
    box.service.approve(token, ANA, yes=True)
    box.go()

    assert box.hypervisor.ran[-1] == "production"
    assert box.run().state is RunState.COMPLETED
    assert [verdict.verdict for verdict in box.run().verdicts] == [Verdict.HELD] * 4
    assert box.incident().state is IncidentState.OPEN

    box.fire(b"ToyBroken resolved")
    assert box.incident().state is IncidentState.CLOSED


def test_what_earlier_steps_said_never_reaches_a_change(box: Box) -> None:
    """It is on no digest, and a change after the test could be told something else than the test was."""
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()
    given = {order.leg.id: dict(order.claims) for order in box.runner.orders}

    assert given["fix"] == {"diagnose": {"cause": "log_growth"}}
    assert {leg: claims for leg, claims in given.items() if leg.startswith(("staging", "production"))} == {
        "staging:rehearse": {},
        "staging:rollback": {},
        "staging": {},
        "production": {},
    }


def test_a_gate_that_fails_halts_and_production_has_no_attempt(box: Box) -> None:
    box.gates.verdicts["tests-inside"] = Verdict.FAILED
    box.fire()
    box.go()
    run = box.run()

    assert run.state is RunState.HALTED
    assert "production" not in box.hypervisor.ran
    assert not [attempt for attempt in run.attempts if attempt.leg == "production"]
    escalation = run.escalations[-1]
    assert escalation.options == (Decision.RETRY, Decision.TAKE_OVER, Decision.ABANDON)

    box.service.decide(escalation.token, ANA, Decision.ABANDON)
    assert (box.run().state, box.incident().state) == (RunState.ABANDONED, IncidentState.CLOSED)


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.ERROR])
def test_no_verdict_is_not_a_pass(box: Box, verdict: Verdict) -> None:
    box.gates.verdicts["confirmed-outside"] = verdict
    box.fire()
    box.go()

    assert box.run().state is RunState.HALTED
    assert box.hypervisor.ran == ["diagnose"]


def test_a_check_that_raises_is_an_error_and_stops_the_run(box: Box) -> None:
    def explode(check_id: str) -> None:
        if check_id == "confirmed-inside":
            raise RuntimeError("broken pipe")

    box.gates.before_each = explode
    box.fire()
    box.go()

    assert box.run().verdicts[-1].verdict is Verdict.ERROR
    assert box.run().state is RunState.HALTED


def test_a_failed_health_gate_offers_the_rollback_which_has_a_gate_of_its_own(box: Box) -> None:
    box.gates.verdicts["healthy-outside"] = Verdict.FAILED
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()
    halted = box.run()

    assert halted.state is RunState.HALTED
    assert Decision.ROLL_BACK in halted.escalations[-1].options
    assert box.hypervisor.ran[-1] == "production"

    box.service.decide(halted.escalations[-1].token, BEN, Decision.ROLL_BACK)
    box.go()

    assert box.hypervisor.ran[-1] == "production:rollback"
    assert box.run().state is RunState.ROLLED_BACK
    assert box.run().verdicts[-1].leg == "production:rollback-gate"
    assert box.incident().state is IncidentState.OPEN


def test_a_rollback_whose_gate_fails_halts_and_does_not_offer_itself_again(box: Box) -> None:
    box.gates.verdicts |= {"healthy-outside": Verdict.FAILED, "undone-inside": Verdict.HELD}
    token = box.until_approval()
    box.service.approve(token, ANA, yes=True)
    box.go()
    box.gates.verdicts["undone-inside"] = Verdict.FAILED
    box.service.decide(box.run().escalations[-1].token, BEN, Decision.ROLL_BACK)
    box.go()

    assert box.run().state is RunState.HALTED
    assert Decision.ROLL_BACK not in box.run().escalations[-1].options

    box.gates.verdicts["undone-inside"] = Verdict.HELD
    box.service.decide(box.run().escalations[-1].token, BEN, Decision.RETRY)
    box.go()
    assert box.run().state is RunState.ROLLED_BACK


def test_retry_of_a_change_measures_the_gate_before_it_and_asks_again(box: Box) -> None:
    box.gates.verdicts["healthy-outside"] = Verdict.FAILED
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()
    measured = len(box.gates.measured)
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    assert box.gates.measured[measured:] == ["tests-inside", "tests-outside"]
    assert box.run().state is RunState.AWAITING_APPROVAL
    assert box.hypervisor.ran.count("production") == 1


def test_retry_of_an_unmeasured_health_gate_measures_again_and_changes_nothing(box: Box) -> None:
    box.gates.verdicts["healthy-outside"] = Verdict.INCONCLUSIVE
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()
    assert box.run().state is RunState.HALTED
    box.gates.verdicts.clear()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    assert box.run().state is RunState.COMPLETED
    assert box.hypervisor.ran.count("production") == 1


def test_an_attempt_that_says_it_failed_halts(box: Box) -> None:
    box.hypervisor.behaviour["fix"] = lambda: ended(code=1, reason="exit code 1")
    box.fire()
    box.go()

    assert box.run().state is RunState.HALTED
    assert box.run().attempts[-1].state is AttemptState.FAILED


def test_a_change_whose_end_nobody_saw_is_unknown_and_a_person_is_asked(box: Box) -> None:
    box.hypervisor.behaviour["production"] = lambda: ended(Ending.VM_LOST, None, "the VM was lost")
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()

    assert box.run().attempts[-1].state is AttemptState.UNKNOWN
    assert box.run().state is RunState.HALTED
    assert "Outcome unknown" in box.run().escalations[-1].why
    assert box.hypervisor.ran.count("production") == 1


def test_a_secret_that_cannot_be_proved_dead_halts_the_run(box: Box) -> None:
    box.secrets.broken_close = True
    box.fire()
    box.go()

    assert box.run().state is RunState.HALTED
    assert "could not be proved dead" in box.run().escalations[-1].why


def test_a_resolve_from_the_source_stops_the_run_before_its_next_change(box: Box) -> None:
    def resolve_while_fixing() -> TaskResult:
        box.fire(b"ToyBroken resolved")
        return ended()

    box.hypervisor.behaviour["fix"] = resolve_while_fixing
    box.fire()
    box.go()

    assert box.run().state is RunState.HALTED
    assert box.hypervisor.ran == ["diagnose", "fix"]
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_a_run_over_its_deadline_halts(box: Box) -> None:
    box.fire()
    box.clock.pass_time(hours=2)
    box.go()

    assert box.run().state is RunState.HALTED
    assert box.hypervisor.ran == []


def test_a_stale_gate_is_measured_again_before_a_change(box: Box) -> None:
    def dawdle() -> TaskResult:
        box.clock.pass_time(minutes=45)
        return ended()

    box.hypervisor.behaviour["fix"] = dawdle
    box.fire()
    box.hypervisor.behaviour["diagnose"] = ended
    run_id = box.run().id
    box.driver.drive(run_id)

    legs = [verdict.leg for verdict in box.run().verdicts]
    assert legs[:2] == ["confirmed", "confirmed"]


def test_a_second_run_on_the_same_targets_waits_and_says_for_what(box: Box) -> None:
    box.until_approval()
    box.fire(b"ToyBroken firing")
    box.shelf.runbook = replace(box.shelf.runbook, alertnames=("ToyBroken", "OtherBroken"))
    box.fire(b"OtherBroken firing")
    box.go()
    second = box.run()

    assert second.state is RunState.QUEUED
    assert "incident 1" in second.waits_for
    box.service.abandon(1, ANA, "first things first")
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_when_vault_is_down_the_run_waits_says_so_and_goes_on_when_it_is_back(box: Box) -> None:
    box.secrets.down = Unavailable("Vault does not answer", "start it")
    box.fire()
    box.go()

    assert box.run().state is RunState.QUEUED
    assert "Vault does not answer" in box.run().waits_for
    assert box.run().attempts == ()

    box.secrets.down = None
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_nothing_runs_when_the_stored_runbook_is_not_what_its_digest_says(box: Box) -> None:
    box.fire()
    with box.database.transaction() as session:
        session.execute(sa.update(models.Run).values(source="something else"))

    box.go()

    assert box.hypervisor.ran == []
    assert "not the one it started with" in box.run().waits_for
    assert "/signalbox abandon 1" in box.run().waits_for


def test_an_artefact_that_holds_a_secret_is_not_kept(box: Box) -> None:
    box.secrets.masks = "the fix"
    box.fire()
    box.go()

    run = box.run()
    assert run.state is RunState.HALTED
    assert run.attempts[-1].artefact_digest is None
    assert "holds a secret" in run.escalations[-1].why


def test_a_run_put_before_production_by_hand_does_not_start_it(box: Box) -> None:
    """Whatever moved the run there, a bug or somebody with the database: no held gate, no change."""
    box.fire()
    with box.database.transaction() as session:
        session.execute(sa.update(models.Run).values(leg="production"))
    box.go()

    assert box.run().state is RunState.HALTED
    assert box.hypervisor.ran == []


def test_a_gate_that_did_not_hold_the_last_time_starts_nothing(box: Box) -> None:
    box.gates.verdicts["confirmed-inside"] = Verdict.FAILED
    box.fire()
    box.hypervisor.behaviour["fix"] = ended
    box.go()
    with box.database.transaction() as session:
        session.execute(sa.update(models.Run).values(leg="staging:rehearse", state=RunState.QUEUED))
        session.execute(sa.update(models.Escalation).values(expired_at=box.clock.now()))
        session.execute(
            sa.update(models.Attempt).values(
                step="fix", artefact_digest=runs.keep_artefact(session, box.run().id, b"x")
            )
        )
    box.driver.drive(box.run().id)

    assert box.run().escalations[-1].why == "The gate confirmed before staging:rehearse did not hold."
    assert "staging:rehearse" not in box.hypervisor.ran
