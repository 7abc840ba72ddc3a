"""Calls of a model: held to the policy, kept before they are made, made once, whatever ids it thinks of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.agents import calls, policy
from engine.agents.calls import Calls, to_restore
from engine.agents.child import LoopEnded
from engine.agents.inside import wire
from engine.agents.toolbox import Toolbox
from engine.agents.transcript import Transcript
from engine.domain.agent import Asked, CallRecord, CallState, Tool, ToolCall
from engine.domain.errors import Unavailable
from engine.domain.gate import Json
from engine.secrets.redact import Redactor
from tests.doubles.agents import RULE, MemoryGuest, MemoryJournal

DF: dict[str, Json] = {"argv": ["df", "srv"], "on": "vm"}
STATUS: dict[str, Json] = {"argv": ["systemctl", "status", "checkout"], "on": "target"}


class World:
    """A guest, a journal, and calls between them; `again()` is another attempt."""

    def __init__(self) -> None:
        self.guest, self.journal, self.redactor = MemoryGuest(), MemoryJournal(), Redactor()
        self.redactor.learn("db", "hunter2-hunter2")
        self.shown: list[str] = []
        self.again()

    def again(self) -> None:
        """Another attempt goes on with what was kept."""
        toolbox = Toolbox(RULE.tools, self.guest, self.redactor)
        transcript = Transcript(self.redactor, self.shown.append)
        so_far = self.journal.so_far()
        self.calls = Calls(RULE, so_far, self.journal, toolbox, self.redactor, transcript)

    def call(self, call_id: str, args: dict[str, Json] = DF, tool: str = "run") -> str | Asked:
        """One call of the model."""
        return self.calls.answer(wire.Call(id=call_id, tool=tool, args=args))


@pytest.fixture
def world() -> World:
    return World()


def test_an_allowed_call_is_kept_before_and_after(world: World) -> None:
    """Begun is on the record before the VM hears of it."""
    answer = world.call("c1")

    assert isinstance(answer, str)
    assert "99%" in answer
    assert world.journal.heard == ["begun c1", "done c1"]
    assert world.journal.conversation.calls[0].answer == answer


def test_a_vm_that_is_gone_leaves_the_call_begun(world: World) -> None:
    """Nothing is assumed about what it did."""
    world.guest.gone = True

    with pytest.raises(Unavailable):
        world.call("c1")

    assert world.journal.states() == {"c1": CallState.BEGUN}


def test_a_refused_call_is_told_why_and_not_made(world: World) -> None:
    """The model hears what is allowed instead."""
    answer = world.call("c1", {"argv": ["rm", "-rf", "/"], "on": "vm"})

    assert isinstance(answer, str)
    assert "is not allowed" in answer
    assert world.guest.ran == []
    assert world.journal.states() == {"c1": CallState.REFUSED}


def test_an_id_is_good_for_one_call(world: World) -> None:
    """The same id with other words, or a second time, is made no more."""
    world.call("c1")

    assert world.call("c1", {"argv": ["df", "home"], "on": "vm"}) == calls.REUSED
    assert world.call("c1") == calls.REUSED
    assert world.guest.ran == [("df", "srv")]


def test_an_id_of_an_earlier_attempt_names_that_call_only(world: World) -> None:
    """Another attempt's record answers its own call, once, and no other."""
    first = world.call("c1")
    world.again()

    assert world.call("c1", {"argv": ["df", "home"], "on": "vm"}) == calls.REUSED
    assert world.call("c1") == first
    assert world.call("c1") == calls.REUSED
    assert world.guest.ran == [("df", "srv")]


def test_a_call_that_had_begun_is_not_repeated(world: World) -> None:
    """Its outcome is unknown, and the model is told so; that is on the record then."""
    world.journal.begin(ToolCall(id="c1", tool=Tool.RUN, args=DF))
    world.again()

    assert world.call("c1") == calls.UNKNOWN
    assert world.guest.ran == []
    assert world.journal.conversation.calls[0].answer == calls.UNKNOWN


def test_more_calls_than_the_budget_end_it(world: World) -> None:
    """Refused ones and reused ids count; those of earlier attempts too."""
    world.call("c1")
    world.call("c1")
    world.call("c2", {"argv": ["rm"], "on": "vm"})
    world.call("c3")
    world.again()
    world.call("c4")
    world.call("c5")

    with pytest.raises(LoopEnded, match="its budget of 5 calls is used up"):
        world.call("c6")
    assert len(world.guest.ran) == 4


def test_a_person_is_asked_and_the_call_waits(world: World) -> None:
    """It is on the record as asked, and not made."""
    asked = world.call("c1", STATUS)

    assert isinstance(asked, Asked)
    assert "systemctl status checkout" in asked.why
    assert world.journal.states() == {"c1": CallState.ASKED}
    assert world.guest.ran == []


def test_a_yes_makes_the_call_that_was_asked_about(world: World) -> None:
    """Exactly that one: the same id with other words is none that a person saw."""
    world.call("c1", STATUS)
    world.journal.decide("c1", yes=True)
    world.again()

    assert world.call("c1", STATUS | {"argv": ["systemctl", "status", "other"]}) == calls.REUSED
    assert isinstance(world.call("c1", STATUS), str)
    assert world.guest.ran == [("ssh", "target", "--", "systemctl status checkout")]
    assert world.journal.states() == {"c1": CallState.DONE}


def test_a_yes_to_an_id_that_was_never_asked_about_is_none(world: World) -> None:
    """A person's yes is to a recorded call; nobody said yes to this one."""
    world.journal.decide("c1", yes=True)
    world.again()

    assert isinstance(world.call("c1", STATUS), Asked)
    assert world.guest.ran == []


def test_a_no_is_told_and_kept(world: World) -> None:
    """The model goes on without it."""
    world.call("c1", STATUS)
    world.journal.decide("c1", yes=False)
    world.again()

    assert world.call("c1", STATUS) == calls.SAID_NO
    assert world.guest.ran == []
    assert world.journal.states() == {"c1": CallState.REFUSED}


def test_silence_is_no_yes(world: World) -> None:
    """Who goes on before a person answered asks again."""
    world.call("c1", STATUS)
    world.again()

    assert isinstance(world.call("c1", STATUS), Asked)
    assert world.guest.ran == []


def test_a_call_that_holds_a_secret_is_refused_and_kept_masked(world: World) -> None:
    """A secret that a model got hold of goes nowhere: not to the VM, the record or the log."""
    args: dict[str, Json] = {"argv": ["df", "hunter2-hunter2"], "on": "vm"}

    assert world.call("c1", args) == calls.LEAKS
    assert world.guest.ran == []
    assert "hunter2" not in repr(world.journal.conversation) + "".join(world.shown)


def test_a_tool_that_was_not_offered_ends_it(world: World) -> None:
    """Our loop offers what there is; who asks for more is not our loop."""
    with pytest.raises(LoopEnded, match="broke the protocol"):
        world.call("c1", {"query": "up"}, tool="metrics")
    with pytest.raises(LoopEnded, match="broke the protocol"):
        world.call("c1", {}, tool="shell")


def test_a_call_longer_than_any_tool_takes_ends_it_and_is_not_kept(world: World) -> None:
    """Refused calls stay in the database for good: a hostile loop must not fill it."""
    longest = '"' * policy.MAX_CONTENT
    assert isinstance(world.call("c1", {"path": "/step/out/a", "content": longest}, tool="write"), str)

    with pytest.raises(LoopEnded, match="longer than any tool takes"):
        world.call("c2", {"path": "/step/out/a", "content": "x" * 700_000}, tool="write")
    assert world.journal.states() == {"c1": CallState.DONE}


def test_what_is_put_back_is_what_the_model_knows_was_written() -> None:
    """A write of which nobody knows whether it was made is not made by us."""
    write = ToolCall(id="c1", tool=Tool.WRITE, args={"path": "/step/out/a", "content": "x"})
    done = CallRecord(call=write, state=CallState.DONE, order=1, answer="wrote 1 bytes")
    unknown = replace(done, answer=calls.UNKNOWN)
    begun = replace(done, state=CallState.BEGUN, answer="")
    run = replace(done, call=replace(write, tool=Tool.RUN))

    assert to_restore((unknown, done, begun, run)) == (done,)
