"""An agent's step on the real machine: kept, resumed, paused for a person, and never more than was allowed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from engine.domain.agent import CallState, Usage
from engine.domain.errors import Conflict, SignalboxError, Unavailable
from engine.domain.ports import Ending, Reach
from engine.domain.states import AttemptState, Decision, RunState, Verdict
from engine.orchestration.conversation import REFUSALS_TOLD
from engine.store import conversations
from tests.doubles.engine import ended
from tests.doubles.played_agents import REQUEST, UNKNOWN, FakeAgents, call, with_agent
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
from tests.integration.engine.conftest import ANA, Box
from tests.integration.engine.test_crash import Killed

# -- one attempt


def test_what_an_agent_came_to_is_the_end_of_its_attempt(box: Box, agents: FakeAgents) -> None:
    box.fire()
    box.go()

    attempt = box.run().attempts[0]
    assert attempt.state is AttemptState.FINISHED
    assert attempt.stdout.splitlines() == ["look: df /srv", "status: systemctl status x", "after: du",
                                           '{"cause": "log_growth"}']  # fmt: skip
    (talk,) = talks(box)
    assert (talk.requests, talk.tokens, talk.microdollars, talk.messages) == (3, 300, 150, b"[after]")
    assert talk.closed_at is not None
    assert [row.state for row in calls(box).values()] == [CallState.DONE] * 3


def test_an_agent_that_gives_up_fails_and_its_transcript_stays(box: Box, agents: FakeAgents) -> None:
    agents.reason = "its budget of 20 requests is used up"
    box.fire()
    box.go()

    attempt = box.run().attempts[-1]
    assert (attempt.state, attempt.reason) == (AttemptState.FAILED, agents.reason)
    assert "systemctl status x" in attempt.stdout
    assert box.run().state is RunState.HALTED


def test_without_models_an_agent_s_step_never_begins(box: Box) -> None:
    box.shelf.runbook = with_agent()
    box.fire()
    box.go()

    assert box.run().state is RunState.HALTED
    assert "it never began: no models are configured" in box.run().escalations[-1].why
    assert "SIGNALBOX_MODELS" in box.run().escalations[-1].why
    assert box.hypervisor.ran == []


def test_an_agent_never_works_a_step_that_writes(box: Box, agents: FakeAgents) -> None:
    box.shelf.runbook = with_agent(("staging",))
    box.fire()
    box.go()

    assert "an agent changes no target" in box.run().escalations[-1].why
    assert "staging" not in box.hypervisor.ran


def test_a_vm_that_was_lost_makes_whatever_it_said_worthless(box: Box, agents: FakeAgents) -> None:
    box.hypervisor.behaviour["diagnose"] = lambda: ended(Ending.VM_LOST, None, "the VM is gone")
    box.fire()
    box.go()

    assert (box.run().attempts[-1].state, box.run().attempts[-1].output) == (AttemptState.FAILED, None)


def test_what_the_agent_s_vm_may_dial_is_in_its_task_and_in_no_digest(box: Box, agents: FakeAgents) -> None:
    gateway = Reach(host="gateway", port=9, address="127.0.0.1", address_port=9)
    box.fire()
    box.go()
    before = box.run().attempts[0]
    agents.more = (gateway,)
    box.service.abandon(1, ANA, "anew")
    box.fire(b"ToyBroken resolved")
    box.fire()
    box.go()

    assert gateway in [order for order in box.runner.orders if order.leg.id == "diagnose"][-1].reaches
    assert box.run().attempts[0].content_digest == before.content_digest


def test_refused_calls_are_told_and_few_of_them(box: Box, agents: FakeAgents) -> None:
    def refuse_many(what: str) -> None:
        if what == "begun look":
            journal = of_running(box)
            for number in range(2 * REFUSALS_TOLD):
                journal.end(call(f"bad-{number // 2}", "rm"), CallState.REFUSED, "no rule allows it")

    agents.when = refuse_many
    box.fire()
    box.go()

    told = [event for event in box.incident().events if event.kind == "agent_refused"]
    assert len(told) == REFUSALS_TOLD
    assert "no rule allows it" in told[0].text


# -- a worker dies


def test_another_attempt_goes_on_where_a_worker_died(box: Box, agents: FakeAgents) -> None:
    def die(what: str) -> None:
        if what == "begun look":
            box.clock.sleep(42)
        if what == "made status":
            agents.when = lambda _what: None
            raise Killed

    agents.when = die
    box.fire()
    with pytest.raises(Killed):
        box.go()
    box.clock.sleep(600)  # nobody works meanwhile
    box.restart()
    box.go()

    assert agents.worked_s == pytest.approx([0, 42], abs=0.1)
    assert diagnoses(box) == [AttemptState.LOST, AttemptState.FINISHED]
    assert box.hypervisor.guest.heard == [("df", "/srv"), ("systemctl", "status", "x"), ("du",)]
    (talk,) = talks(box)
    assert talk.id == box.run().attempts[0].id
    assert talk.requests == 3
    assert agents.so_far == [0, 2]
    assert calls(box)["status"].answer == UNKNOWN


def test_an_attempt_that_was_given_up_neither_spends_nor_begins_a_call(box: Box, agents: FakeAgents) -> None:
    refused: list[SignalboxError] = []

    def be_given_up(what: str) -> None:
        if what != "begun look" or refused:
            return
        journal = of_running(box)
        box.restart()
        for act in (
            lambda: journal.spend(REQUEST),
            lambda: journal.begin(STATUS),
            lambda: journal.end(LOOK, CallState.DONE, "late"),
            lambda: journal.said(b"late"),
            journal.so_far,
        ):
            with pytest.raises(Unavailable, match="given up") as raised:
                act()
            refused.append(raised.value)

    agents.when = be_given_up
    box.fire()
    box.go()

    (talk,) = talks(box)
    assert len(refused) == 5
    assert talk.requests == 1
    assert calls(box)["look"].state is CallState.BEGUN


def test_a_worker_that_dies_again_and_again_is_no_accident(box: Box, agents: FakeAgents) -> None:
    def die(what: str) -> None:
        raise Killed

    agents.when = die
    box.fire()
    for _ in range(3):
        agents.calls = (*agents.calls, call(f"more-{len(agents.calls)}"))
        with pytest.raises(Killed):
            box.go()
        box.restart()
    box.go()

    assert box.run().state is RunState.HALTED
    assert [talk.closed_at is None for talk in talks(box)] == [False]


def test_a_retry_is_a_new_conversation(box: Box, agents: FakeAgents) -> None:
    agents.reason = "it gave up"
    box.fire()
    box.go()
    agents.reason = ""
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    assert [talk.requests for talk in talks(box)] == [3, 3]
    assert agents.so_far == [0, 0]


# -- what the database itself holds


NEVER = (
    "UPDATE agent_call SET state = 'begun', begun_at = asked_at WHERE state = 'asked'",
    "UPDATE agent_call SET state = 'done', ended_at = asked_at WHERE state = 'asked'",
    "UPDATE agent_call SET args = '{}'",
    "UPDATE agent_call SET tool = 'read'",
    "UPDATE agent_call SET call_id = 'another'",
    "UPDATE agent_call SET answer = 'another' WHERE state = 'done'",
    "DELETE FROM agent_call",
    "UPDATE agent_conversation SET requests = 0",
    "UPDATE agent_conversation SET tokens = -1",
    "DELETE FROM agent_conversation",
)


@pytest.mark.parametrize("statement", NEVER)
def test_the_database_refuses(box: Box, agents: FakeAgents, statement: str) -> None:
    asking(box, agents)
    with pytest.raises(Conflict), box.database.transaction() as session:
        session.execute(sa.text(statement))


def test_a_leg_has_one_open_conversation(box: Box, agents: FakeAgents) -> None:
    box.service.approve(asking(box, agents), ANA, yes=True)
    box.hypervisor.behaviour["diagnose"] = dies
    with pytest.raises(Killed):
        box.go()

    def second() -> None:
        here, now = box.run(), box.clock.now()
        with box.database.transaction() as session:
            conversations.begin(session, attempt_id=here.attempts[-1].id, run_id=here.id, leg="diagnose", now=now)

    with pytest.raises(Conflict, match=r"uq_agent_conversation_open|run_id, agent_conversation\.leg"):
        second()


def test_a_closed_conversation_does_not_open_again(box: Box, agents: FakeAgents) -> None:
    box.fire()
    box.go()
    with pytest.raises(Conflict), box.database.transaction() as session:
        session.execute(sa.text("UPDATE agent_conversation SET closed_at = NULL"))


def test_what_is_used_is_a_sum(box: Box, agents: FakeAgents) -> None:
    sums: list[Usage] = []

    def spend(what: str) -> None:
        if what == "begun look":
            sums.append(of_running(box).spend(Usage(tokens=7)))
            sums.append(of_running(box).spend(Usage(tokens=5, microdollars=1)))

    agents.when = spend
    box.fire()
    box.go()

    assert sums == [
        Usage(requests=1, tokens=107, microdollars=50), Usage(requests=1, tokens=112, microdollars=51)
    ]  # fmt: skip


def test_a_gate_that_fails_after_an_agent_sends_a_retry_to_a_new_conversation(box: Box, agents: FakeAgents) -> None:
    box.gates.verdicts["confirmed-inside"] = Verdict.FAILED
    box.fire()
    box.go()
    box.gates.verdicts.clear()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    assert agents.so_far == [0, 0]
    assert len(talks(box)) == 2
