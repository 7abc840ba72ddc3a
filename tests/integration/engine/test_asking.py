"""A call of an agent that takes a person's yes: exactly that call, once, and never a change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from engine.domain.agent import ToolCall
from engine.domain.errors import Conflict, NotAllowed, Refused
from engine.domain.ports import Ending
from engine.domain.states import ApprovalState, AttemptState, Decision, RunState
from engine.store import models
from tests.doubles.engine import ended
from tests.doubles.played_agents import UNKNOWN, FakeAgents, call
from tests.integration.engine.an_agent import (
    LOOK,
    STATUS,
    asking,
    calls,
    diagnoses,
    dies,
    of_running,
    talks,
)
from tests.integration.engine.conftest import ANA, BEN, CLEO, Box
from tests.integration.engine.test_approval import TAMPERINGS, address, arguments, artefact, image
from tests.integration.engine.test_crash import Killed

CHANGED = tuple(tamper for tamper in TAMPERINGS if tamper is not artefact)


# -- a person is asked


def test_a_call_that_takes_a_yes_pauses_and_shows_exactly_that_call(box: Box, agents: FakeAgents) -> None:
    asking(box, agents)

    run = box.run()
    asked = run.approvals[-1]
    assert diagnoses(box) == [AttemptState.PAUSED]
    assert asked.of_a_call
    assert asked.order.lines == {
        "Call": "systemctl status x (on production)",
        "Step": "diagnose, an agent",
        "Why": "it shows which unit writes",
    }
    assert asked.order.preview == "systemctl status x"
    assert box.hypervisor.guest.heard == [("df", "/srv")]
    assert "call_asked" in [event.kind for event in box.incident().events]


def test_a_yes_lets_the_next_attempt_make_that_call_once(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=True)
    box.go()

    assert diagnoses(box) == [AttemptState.PAUSED, AttemptState.FINISHED]
    assert box.hypervisor.guest.heard == [("df", "/srv"), ("systemctl", "status", "x"), ("du",)]
    assert box.run().approvals[0].state is ApprovalState.CONSUMED
    assert len(talks(box)) == 1
    assert box.run().state is RunState.AWAITING_APPROVAL, "production takes a yes of its own"
    assert not box.run().approvals[-1].of_a_call


def test_a_yes_outlives_the_worker_that_died_before_the_call(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=True)
    box.hypervisor.behaviour["diagnose"] = dies
    with pytest.raises(Killed):
        box.go()
    del box.hypervisor.behaviour["diagnose"]
    box.restart()
    box.go()

    assert diagnoses(box) == [AttemptState.PAUSED, AttemptState.LOST, AttemptState.FINISHED]
    assert box.hypervisor.guest.heard.count(("systemctl", "status", "x")) == 1


@pytest.mark.parametrize("tamper", [arguments, image, address], ids=lambda tamper: tamper.__name__)
def test_a_yes_that_outlived_a_worker_is_to_the_order_that_was_shown(
    box: Box, agents: FakeAgents, tamper: Callable[[Box], None]
) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=True)
    box.hypervisor.behaviour["diagnose"] = dies
    with pytest.raises(Killed):
        box.go()
    del box.hypervisor.behaviour["diagnose"]
    tamper(box)
    box.restart()
    box.go()

    assert box.run().state is RunState.HALTED
    assert "is not the one that is made now" in box.run().escalations[-1].why
    assert ("systemctl", "status", "x") not in box.hypervisor.guest.heard


def test_a_yes_is_not_used_twice_when_the_worker_dies_in_the_call(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=True)

    def die(what: str) -> None:
        if what == "made status":
            raise Killed

    agents.when = die
    with pytest.raises(Killed):
        box.go()
    box.restart()
    box.go()

    assert diagnoses(box)[-1] is AttemptState.FINISHED
    assert box.hypervisor.guest.heard.count(("systemctl", "status", "x")) == 1
    assert calls(box)["status"].answer == UNKNOWN


def test_a_call_that_was_allowed_begins_once(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=True)
    refused: list[str] = []

    def begin_again(what: str) -> None:
        if what.endswith(" status"):
            with pytest.raises(Refused, match="was there before") as raised:
                of_running(box).begin(STATUS)
            refused.append(str(raised.value))

    agents.when = begin_again
    box.go()

    assert len(refused) == 2


def test_a_no_halts_and_a_retry_begins_anew(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=False, reason="not on production")
    assert box.run().state is RunState.HALTED
    assert "not on production" in box.run().escalations[-1].why
    agents.asks = frozenset()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    assert [talk.closed_at is None for talk in talks(box)] == [False, False]
    assert diagnoses(box) == [AttemptState.PAUSED, AttemptState.FINISHED]


def test_silence_is_no_yes_to_a_call(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.clock.pass_time(minutes=31)
    with pytest.raises(Conflict, match="expired"):
        box.service.approve(token, ANA, yes=True)
    box.round()

    assert box.run().state is RunState.HALTED
    assert ("systemctl", "status", "x") not in box.hypervisor.guest.heard


def test_a_call_can_be_given_more_time(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.clock.pass_time(minutes=10)
    before = box.run().approvals[-1].expires_at
    box.service.extend(token, BEN)

    assert box.run().approvals[-1].expires_at > before


def test_an_asking_agent_s_run_can_be_abandoned(box: Box, agents: FakeAgents) -> None:
    asking(box, agents)
    box.service.abandon(1, ANA, "enough")

    assert box.run().state is RunState.ABANDONED
    assert talks(box)[0].closed_at is not None
    assert box.run().approvals[-1].state is ApprovalState.VOIDED


def test_only_configured_people_allow_a_call(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    with pytest.raises(NotAllowed):
        box.service.approve(token, CLEO, yes=True)


@pytest.mark.parametrize("tamper", CHANGED, ids=lambda tamper: tamper.__name__)
def test_a_yes_to_a_call_of_what_was_changed_since_is_void(
    box: Box, agents: FakeAgents, tamper: Callable[[Box], None]
) -> None:
    token = asking(box, agents)
    tamper(box)
    with pytest.raises(Refused, match="void"):
        box.service.approve(token, ANA, yes=True)

    assert box.run().approvals[-1].state is ApprovalState.VOIDED
    assert box.run().state is RunState.HALTED


@pytest.mark.parametrize("tamper", CHANGED, ids=lambda tamper: tamper.__name__)
def test_a_call_is_not_made_when_something_was_changed_after_the_yes(
    box: Box, agents: FakeAgents, tamper: Callable[[Box], None]
) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=True)
    tamper(box)
    box.go()

    assert box.run().approvals[-1].state is ApprovalState.VOIDED
    assert box.run().state is RunState.HALTED
    assert ("systemctl", "status", "x") not in box.hypervisor.guest.heard


def test_a_yes_to_a_call_that_was_not_shown_is_void(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    with box.database.transaction() as session:
        session.execute(sa.update(models.Approval).values(lines={"Call": "df", "Step": "diagnose, an agent"}))

    with pytest.raises(Refused, match="not what it says"):
        box.service.approve(token, ANA, yes=True)


def test_another_call_by_the_name_of_the_one_that_was_allowed_is_not_made(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=True)
    agents.calls = (LOOK, call("status", "systemctl", "stop", "x"))
    box.go()

    assert box.run().state is RunState.HALTED
    assert "is not the one that a person was asked about" in box.run().escalations[-1].why
    assert box.hypervisor.guest.heard == [("df", "/srv")]


@pytest.mark.parametrize(
    "asked",
    [call("status", "cat", "x" * 1601), call("status", "cat", "&" * 400), call("status", "cat", "\ud800")],
    ids=["long", "long as Slack counts", "half a character"],
)
def test_a_call_that_nobody_could_see_whole_is_not_asked_about(box: Box, agents: FakeAgents, asked: ToolCall) -> None:
    agents.calls, agents.asks = (asked,), frozenset({"status"})
    box.fire()
    box.go()

    assert box.run().state is RunState.HALTED
    assert diagnoses(box) == [AttemptState.FAILED]
    assert box.run().approvals == ()


def test_nothing_in_a_call_is_shown_otherwise_than_it_is(box: Box, agents: FakeAgents) -> None:
    agents.calls, agents.asks = (call("status", "cat", "a b", "\u202egpj", "c\nd"),), frozenset({"status"})
    box.fire()
    box.go()

    assert box.run().approvals[-1].order.preview == 'cat \'a b\' "\\u202egpj" "c\\nd"'


# -- a yes to a call and a yes to a change are two things


def test_a_yes_to_a_call_changes_nothing(box: Box, agents: FakeAgents) -> None:
    """Even with every digest of the change in it."""
    box.fire()
    box.go()
    token = box.run().approvals[-1].token
    box.service.approve(token, ANA, yes=True)
    with box.database.transaction() as session:
        some = session.scalars(sa.select(models.AgentCall.id)).first()
        session.execute(sa.update(models.Approval).values(agent_call_id=some))
    box.go()

    assert box.run().approvals[-1].state is ApprovalState.VOIDED
    assert box.run().state is RunState.HALTED
    assert "production" not in box.hypervisor.ran


def test_a_yes_to_a_change_allows_no_call(box: Box, agents: FakeAgents) -> None:
    token = asking(box, agents)
    box.service.approve(token, ANA, yes=True)
    with box.database.transaction() as session:
        session.execute(sa.update(models.Approval).values(agent_call_id=None))
    box.go()

    assert box.run().approvals[-1].state is ApprovalState.VOIDED
    assert box.run().state is RunState.HALTED
    assert ("systemctl", "status", "x") not in box.hypervisor.guest.heard


def test_a_vm_that_was_lost_asks_nobody(box: Box, agents: FakeAgents) -> None:
    agents.asks = frozenset({"status"})
    box.hypervisor.behaviour["diagnose"] = lambda: ended(Ending.VM_LOST, None, "the VM is gone")
    box.fire()
    box.go()

    assert diagnoses(box) == [AttemptState.FAILED]
    assert box.run().approvals == ()


def test_a_secret_that_may_live_makes_a_pause_a_failure(box: Box, agents: FakeAgents) -> None:
    agents.asks = frozenset({"status"})
    box.secrets.broken_close = True
    box.fire()
    box.go()

    assert diagnoses(box) == [AttemptState.FAILED]
    assert box.run().state is RunState.HALTED
