"""What was tested = what is approved = what is applied. Any change voids the approval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from engine.domain.directory import Address, Directory
from engine.domain.errors import Conflict, NotAllowed, Refused
from engine.domain.incident import MessageRef
from engine.domain.states import ApprovalState, Decision, RunState, Verdict
from engine.store import models
from tests.integration.engine.conftest import ANA, BEN, CLEO, Box


def artefact(box: Box) -> None:
    """Somebody edits the bytes of the fix in the database."""
    with box.database.transaction() as session:
        session.execute(sa.update(models.Artefact).values(data=b"another fix"))


def arguments(box: Box) -> None:
    """Somebody edits the run's inputs in the database."""
    with box.database.transaction() as session:
        session.execute(sa.update(models.Run).values(inputs={"mount": "/etc"}))


def image(box: Box) -> None:
    """Somebody rebuilds the guest image."""
    box.hypervisor.image = b"another image"


def runbook_file(box: Box) -> None:
    """Somebody edits the runbook on disk."""
    box.shelf.source += "\n# and a little more"


def script_file(box: Box) -> None:
    """Somebody edits a script of the runbook on disk."""
    box.shelf.files["apply.sh"] = b"rm -rf /"


def address(box: Box) -> None:
    """Somebody points production's name at another machine."""
    sites = dict(box.directory.sites)
    elsewhere = {22: Address(host="127.0.0.1", port=9)}
    sites["production.toy"] = replace(sites["production.toy"], ports=elsewhere)
    box.directory = Directory(sites=sites)


TAMPERINGS = (artefact, arguments, image, runbook_file, script_file, address)


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_a_yes_to_what_was_changed_since_it_was_shown_is_refused_and_void(
    box: Box, tamper: Callable[[Box], None]
) -> None:
    token = box.until_approval()
    tamper(box)

    with pytest.raises(Refused, match="void"):
        box.service.approve(token, ANA, yes=True)
    box.go()

    run = box.run()
    assert run.approvals[-1].state is ApprovalState.VOIDED
    assert run.state is RunState.HALTED
    assert "production" not in box.hypervisor.ran


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_what_was_changed_after_the_yes_is_not_started_and_the_yes_is_void(
    box: Box, tamper: Callable[[Box], None]
) -> None:
    token = box.until_approval()
    box.service.approve(token, ANA, yes=True)
    tamper(box)
    box.go()

    run = box.run()
    assert run.approvals[-1].state is ApprovalState.VOIDED
    assert run.state is RunState.HALTED
    assert "production" not in box.hypervisor.ran


def test_a_yes_is_consumed_by_the_one_start_that_it_allowed(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()

    assert box.run().approvals[-1].state is ApprovalState.CONSUMED


def test_only_configured_people_approve_and_the_refusal_says_who(box: Box) -> None:
    token = box.until_approval()

    with pytest.raises(NotAllowed) as refusal:
        box.service.approve(token, CLEO, yes=True)
    assert "<@UANA>, <@UBEN>" in refusal.value.remedy
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_who_chose_the_runbook_does_not_approve_its_change(box: Box) -> None:
    box.fire(b"Unheard firing")
    chooser = box.incident().choose_token
    assert chooser is not None
    box.service.choose_runbook(chooser, ANA, "toy")
    box.go()
    token = box.run().approvals[-1].token

    with pytest.raises(NotAllowed):
        box.service.approve(token, ANA, yes=True)
    box.service.approve(token, BEN, yes=True)
    box.go()
    assert box.run().state is RunState.COMPLETED


def test_the_second_click_changes_nothing_and_says_who_was_first(box: Box) -> None:
    token = box.until_approval()
    box.service.approve(token, ANA, yes=True)

    with pytest.raises(Conflict, match="already approved by Ana"):
        box.service.approve(token, BEN, yes=False)


def test_a_click_on_another_message_than_ours_is_refused(box: Box) -> None:
    token = box.until_approval()
    approval = box.run().approvals[-1]
    box.service.keep_ref(f"approval:{approval.id}", MessageRef(channel="C1", ts="1.0"))

    with pytest.raises(NotAllowed):
        box.service.approve(token, ANA, yes=True, at=MessageRef(channel="C2", ts="1.0"))
    box.service.approve(token, ANA, yes=True, at=MessageRef(channel="C1", ts="1.0"))


def test_a_no_halts_the_run_with_its_reason(box: Box) -> None:
    box.service.approve(box.until_approval(), ANA, yes=False, reason="not during the sale")
    box.go()

    assert box.run().state is RunState.HALTED
    assert "not during the sale" in box.run().escalations[-1].why
    assert "production" not in box.hypervisor.ran


def test_silence_is_not_a_yes(box: Box) -> None:
    token = box.until_approval()
    box.clock.pass_time(minutes=21)
    with pytest.raises(Conflict, match="expired"):
        box.service.approve(token, ANA, yes=True)
    box.round()

    assert box.run().approvals[-1].state is ApprovalState.EXPIRED
    assert box.run().state is RunState.HALTED
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_what_staging_did_not_see_is_not_even_asked_for(box: Box) -> None:
    """The image changes between staging and the question: the content digests differ."""
    box.gates.before_each = lambda check_id: image(box) if check_id == "tests-outside" else None
    box.fire()
    box.go()

    run = box.run()
    assert run.state is RunState.HALTED
    assert run.approvals == ()
    assert "production" not in box.hypervisor.ran


def test_a_rollback_is_bound_to_its_order_but_not_held_up_by_a_newer_runbook(box: Box) -> None:
    """At 3 a.m. somebody merges a runbook: what was rehearsed can still be undone, exactly as it was rehearsed."""
    box.gates.verdicts["healthy-outside"] = Verdict.FAILED
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()
    runbook_file(box)
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.ROLL_BACK)
    box.go()

    assert box.run().state is RunState.ROLLED_BACK


def test_a_rollback_whose_image_changed_after_the_decision_is_refused(box: Box) -> None:
    box.gates.verdicts["healthy-outside"] = Verdict.FAILED
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.ROLL_BACK)
    image(box)
    box.go()

    assert box.run().state is RunState.HALTED
    assert "production:rollback" not in box.hypervisor.ran


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_what_was_changed_while_vault_made_us_wait_is_not_started(box: Box, tamper: Callable[[Box], None]) -> None:
    """Seen in the demo: the image was hashed, then Vault was slow to answer, and in between the image was changed."""
    token = box.until_approval()
    box.service.approve(token, ANA, yes=True)
    box.secrets.when_asked = lambda: tamper(box)
    box.driver.drive(box.run().id)

    assert box.run().state is RunState.HALTED
    assert "production" not in box.hypervisor.ran
