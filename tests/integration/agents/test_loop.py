"""The whole loop: the real process in bubblewrap, each wire format, a scripted model, and a VM of the test's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.agents import calls
from engine.agents.replay import Answered, Fault, Request, ScriptedModel, Turn, call, say
from engine.agents.work import AgentWork
from engine.domain.agent import AgentEnd, Api, Budget, CallState
from engine.domain.errors import Unavailable
from engine.domain.gate import Json
from engine.domain.runners import Order
from engine.secrets.redact import Redactor
from tests.doubles.agents import RULE, MemoryGuest, MemoryJournal, ScriptedDoors, WorkerDied, agent_order

Script = list[Any] | Callable[[Request], Turn]
DF: dict[str, Json] = {"argv": ["df", "srv"], "on": "vm"}
STATUS: dict[str, Json] = {"argv": ["systemctl", "status", "checkout"], "on": "target"}
FOUND: dict[str, Json] = {"cause": "log_growth", "evidence": ["df says 99%"]}
every_format = pytest.mark.parametrize("api", list(Api))


class World:
    """A VM, a journal, a model; `work` is one attempt, and another one goes on with the journal."""

    def __init__(self) -> None:
        self.guest, self.journal, self.redactor = MemoryGuest(), MemoryJournal(), Redactor()
        self.redactor.learn("db", "hunter2-hunter2")
        self.shown: list[str] = []
        self.doors = ScriptedDoors(ScriptedModel([]))

    def work(self, script: Script, api: Api = Api.ANTHROPIC, order: Order | None = None) -> AgentEnd:
        """One attempt with this model."""
        self.doors = replace(self.doors, model=ScriptedModel(script), api=api, served=[])
        worker = AgentWork(self.doors, lambda: "HN-0: compare df with du.")
        return worker.work(
            order or agent_order(), self.guest, self.journal, self.redactor, self.shown.append, lambda: False
        )

    def new_vm(self) -> None:
        """Another attempt has a VM of its own."""
        self.guest = MemoryGuest()

    @property
    def asked(self) -> list[Request]:
        """What the model of the last attempt was asked."""
        return self.doors.served[0].requests


@pytest.fixture
def world() -> World:
    return World()


@every_format
def test_it_looks_and_concludes(world: World, api: Api) -> None:
    """A call, its answer, a typed output; told what it is, and no data among it; all of it in the log."""
    end = world.work([say("I look first.", call("run", DF)), call("finish", FOUND)], api)

    assert end == AgentEnd(output=FOUND)
    assert world.guest.ran == [("df", "srv")]
    assert world.journal.heard == ["said", "said", "begun call_1_1", "done call_1_1", "said", "said"]
    first, second = world.asked
    assert "HN-0: compare df with du." in first.instructions
    assert "/srv/data" not in first.instructions
    assert set(first.tools) == {"run", "read", "write", "logs", "finish"}
    assert [isinstance(entry, Answered) and "99%" in entry.text for entry in second.latest] == [True]
    log = "".join(world.shown)
    assert "agent: I look first." in log
    assert "> run on vm: df srv" in log
    assert "99%" in log


@every_format
def test_a_text_is_the_output_of_a_step_without_a_rule(world: World, api: Api) -> None:
    """Nothing is typed then."""
    assert world.work([say("It is the logs.")], api, agent_order(output=None)) == AgentEnd(output="It is the logs.")


@every_format
def test_calls_of_one_answer_are_made_in_turn(world: World, api: Api) -> None:
    """One after another, in their order, each on the record before the next."""
    two = [call("run", {"argv": ["df", name], "on": "vm"}) for name in ("a", "b")]

    world.work([say("Both.", *two), call("finish", FOUND)], api)

    assert world.guest.ran == [("df", "a"), ("df", "b")]
    assert world.journal.heard[2:6] == ["begun call_1_1", "done call_1_1", "begun call_1_2", "done call_1_2"]


def test_rules_that_do_not_read_are_the_reason(world: World) -> None:
    """Not a defect, after which another attempt would begin: nobody works without them, and a person hears why."""
    worker = AgentWork(world.doors, b"caf\xe9".decode)

    end = worker.work(agent_order(), world.guest, world.journal, world.redactor, world.shown.append, lambda: False)

    assert end.output is None
    assert "agents.md cannot be read" in end.reason


def test_an_output_that_does_not_fit_may_be_mended(world: World) -> None:
    """The model is told what is wrong."""
    wrong = call("finish", {"cause": "gremlins"})

    assert world.work([wrong, call("finish", FOUND)]).output == FOUND
    said = json.dumps([repr(entry) for entry in world.asked[1].latest])
    assert "'evidence' is missing" in said
    assert "'cause' is none of" in said


@every_format
def test_an_output_that_never_fits_ends_it(world: World, api: Api) -> None:
    """After two times; what it said is no output."""
    end = world.work(lambda _: say("", call("finish", {"cause": "gremlins"})), api)

    assert end.output is None
    assert end.reason
    assert len(world.asked) == 3


def test_a_model_that_calls_without_end_is_ended(world: World) -> None:
    """By the budget of calls, whatever the model thinks of it."""
    end = world.work(lambda _: say("", call("run", DF)))

    assert "its budget of 5 calls is used up" in end.reason
    assert len(world.guest.ran) == 5


def test_a_model_that_is_asked_without_end_is_ended(world: World) -> None:
    """By the budget of requests."""
    rule = replace(RULE, budget=Budget(requests=3, tokens=100_000, calls=50))

    end = world.work(lambda _: say("", call("run", DF)), order=agent_order(rule))

    assert end.reason == "it may ask the model no more"
    assert len(world.asked) == 3


@pytest.mark.parametrize(("status", "requests"), [(401, 1), (400, 1), (429, 3), (500, 3), (529, 3)])
def test_a_provider_that_fails_is_the_reason(world: World, status: int, requests: int) -> None:
    """What is worth another try has two; there is no output."""
    end = world.work([Fault(status, "try another day")])

    assert end.output is None
    assert end.reason == f"the model answered {status}: try another day"
    assert len(world.asked) == requests


def test_what_the_proxy_refused_is_in_the_reason(world: World) -> None:
    """The proxy knows best why a request was not made."""
    world.doors.refusals.append("its budget of 10 requests is used up")

    assert "its budget of 10 requests is used up" in world.work([Fault(400, "no")]).reason


@every_format
def test_a_person_is_asked_and_the_next_attempt_goes_on(world: World, api: Api) -> None:
    """The call that waited is made without asking the model again."""
    script = [call("run", STATUS), call("finish", FOUND)]
    end = world.work(script, api)

    assert end.asked is not None
    assert end.asked.call.args == STATUS
    assert world.guest.ran == []

    world.journal.decide(end.asked.call.id, yes=True)
    world.new_vm()
    assert world.work(script, api) == AgentEnd(output=FOUND)
    assert world.guest.ran == [("ssh", "target", "--", "systemctl status checkout")]
    assert [len(request.turns) for request in world.asked] == [1]


@every_format
def test_a_worker_that_died_in_a_call_is_gone_on_from(world: World, api: Api) -> None:
    """What was done is answered from the record, its file is back, the call under way is not repeated."""
    write = call("write", {"path": "/step/out/a", "content": "x"})
    script = [say("", write, call("run", DF)), call("finish", FOUND)]
    world.guest.dies_at = "df"
    with pytest.raises(WorkerDied):
        world.work(script, api)
    assert world.journal.states() == {"call_1_1": CallState.DONE, "call_1_2": CallState.BEGUN}

    world.new_vm()
    assert world.work(script, api).output == FOUND

    assert world.guest.files == {"/step/out/a": b"x"}
    assert world.guest.ran == []
    (second,) = world.asked
    answers = [entry.text for entry in second.latest if isinstance(entry, Answered)]
    assert "wrote 1 bytes" in answers[0]
    assert answers[1] == calls.UNKNOWN


@every_format
def test_a_worker_that_died_before_the_next_request_is_gone_on_from(world: World, api: Api) -> None:
    """The answers are in the record; the model is asked once more, and no call is made again."""
    script = [call("run", DF), call("finish", FOUND)]
    kept = world.journal.said

    def dies(messages: bytes) -> None:
        kept(messages)
        if len(json.loads(messages)) == 3:
            raise WorkerDied

    world.journal.said = dies  # type: ignore[method-assign]
    with pytest.raises(WorkerDied):
        world.work(script, api)
    world.journal.said = kept  # type: ignore[method-assign]

    assert world.work(script, api).output == FOUND
    assert world.guest.ran == [("df", "srv")]
    assert [len(request.turns) for request in world.asked] == [1]
    assert len(json.loads(world.journal.conversation.messages)) == 4


def test_no_secret_is_kept_or_told(world: World) -> None:
    """Neither what a VM shows nor what a model says of it; the conversation is JSON still."""
    world.guest.answers = {"df": "password hunter2-hunter2"}
    found = FOUND | {"evidence": 'it said "hunter2-hunter2"\n'}

    end = world.work([say("hunter2-hunter2!", call("run", DF)), call("finish", found)])

    kept = repr(world.journal.conversation) + repr(end) + "".join(world.shown)
    assert "hunter2" not in kept
    assert "hunter2" not in repr(world.asked[1].latest)
    assert json.loads(world.journal.conversation.messages)


def test_a_vm_that_is_gone_is_no_end(world: World) -> None:
    """Nothing is assumed: whoever asked for the work hears of it."""
    world.guest.gone = True

    with pytest.raises(Unavailable):
        world.work([call("run", DF), call("finish", FOUND)])


def test_a_tool_that_is_not_there_is_told_to_the_model(world: World) -> None:
    """It may think again."""
    assert world.work([call("shell", {"cmd": "id"}), call("finish", FOUND)]).output == FOUND
    assert world.journal.conversation.calls == ()


def test_time_that_earlier_attempts_used_is_not_given_again(world: World) -> None:
    world.journal.conversation = replace(world.journal.conversation, worked_s=60.0)

    end = world.work([call("finish", FOUND)])

    assert end.output is None
    assert end.reason.startswith("its time of 60 s is used up")
    assert world.doors.served == []
