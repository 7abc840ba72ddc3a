"""A coding CLI works an agent's step: the real proxy, a scripted model, and a CLI of the test's on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from engine.agents.cli import Lines
from engine.agents.proxy import ModelProxy
from engine.agents.replay import ReplayServer, ScriptedModel, call, say
from engine.agents.work import AgentWork
from engine.domain.agent import AgentEnd, AgentRule, Api, Budget, Usage
from engine.domain.errors import BadInput
from engine.domain.ports import Reach
from engine.domain.runbook import Grant, Login, SecretRef
from engine.domain.runners import Order
from engine.secrets.redact import Redactor
from tests.doubles.agents import MemoryGuest, MemoryJournal, agent_order, nowhere
from tests.integration.agents.doors import model, proxy
from tests.integration.agents.host_guest import HostGuest
from tests.integration.agents.provider import KEY

RULE = AgentRule(model="careful", cli="codex", budget=Budget(requests=5, tokens=50_000, calls=0), context=("disks.md",))
CLAIM = '{"cause": "log_growth", "evidence": "df"}'
CLAIMS = call("exec_command", {"cmd": f"mkdir -p out; echo fixed > out/fix; echo '{CLAIM}' > claim.json"})


def cli_order(**more: Any) -> Order:
    """An order for a step that codex works."""
    return agent_order(more.pop("rule", RULE), **more)


@dataclass
class World:
    """A machine with a worker, whose model says what a script says."""

    folder: Path
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    redactor: Redactor = field(default_factory=Redactor)
    shown: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    guest: HostGuest | None = None
    asked: list[Any] = field(default_factory=list)

    @contextmanager
    def served(self, script: Any, api: Api = Api.OPENAI_RESPONSES) -> Iterator[tuple[ModelProxy, AgentWork]]:
        """The proxy, and who works by it."""
        with ReplayServer(ScriptedModel(script), key=KEY) as server:
            doors = proxy(model(api, server.url, self.folder))
            yield doors, AgentWork(doors, lambda: "HN-0: compare df with du.")
            self.asked = server.requests

    def work(self, script: Any, order: Order | None = None, api: Api = Api.OPENAI_RESPONSES) -> AgentEnd:
        """One attempt in a new VM."""
        order = order or cli_order()
        place = self.folder / f"vm{len(list(self.folder.iterdir()))}"
        place.mkdir()
        with self.served(script, api) as (_, worker), worker.opened(order, nowhere) as reaches:
            port = reaches[0].address_port
            self.guest = HostGuest(place, {"STANDS_FOR": f"http://127.0.0.1:{port}", **self.env})
            self.guest.install()
            return worker.work(order, self.guest, self.journal, self.redactor, self.shown.append, lambda: False)

    @property
    def log(self) -> str:
        """The transcript."""
        return "".join(self.shown)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_it_works_the_step_and_its_claim_is_what_it_wrote_down(world: World) -> None:
    end = world.work([say("I look first.", CLAIMS), say("It is the log.")])

    assert end == AgentEnd(output={"cause": "log_growth", "evidence": "df"})
    assert world.guest is not None
    assert world.guest.read("/step/out/fix", 100) == b"fixed\n"
    assert world.journal.conversation.usage.requests == 2
    assert world.journal.heard == []  # nothing of it is there to go on with
    for shown in ("agent: I look first.", "> run: mkdir -p out", "exit code 0", "agent: It is the log."):
        assert shown in world.log


def test_it_is_told_who_it_is_apart_from_data(world: World) -> None:
    world.work([say("Nothing."), say("")])

    first = world.asked[0]
    assert "HN-0: compare df with du." in first.instructions
    assert "Disks have inodes." in first.instructions
    assert "/step/claim.json" in first.instructions
    assert '"enum": ["log_growth", "unknown"]' in first.instructions
    assert "/srv/data" not in first.instructions
    assert any("/srv/data" in entry.text for entry in first.latest)


def test_the_real_key_is_nowhere_in_its_vm(world: World) -> None:
    """The step's token is, and opens nothing once the step is over."""
    looks = call("exec_command", {"cmd": "env; cat .cli/*"})
    with world.served([]) as (doors, _):
        assert doors.ends == ()
    world.work([say("", looks), say("", CLAIMS), say("Done.")])

    assert world.guest is not None
    files = b"".join(path.read_bytes() for path in world.guest.folder.rglob("*") if path.is_file())
    told = " ".join(str(entry) for request in world.asked for entry in request.history)
    assert KEY.encode() not in files
    assert KEY not in told + world.log
    token = world.guest.read("/step/.cli/token", 100).decode()
    assert token in told  # it looked well
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{world.guest.env['STANDS_FOR']}/v1/models", headers={"x-api-key": token}, timeout=5)


def test_another_model_is_refused_and_the_reason_says_so(world: World) -> None:
    world.env = {"OTHER_MODEL": "huge-model-9"}

    end = world.work([say("Never said.")])

    assert end.output is None
    assert "403: model 'huge-model-9' is not this step's" in end.reason
    assert world.asked == []


@pytest.mark.parametrize("left", [0, 1])
def test_its_budget_goes_on_over_attempts_and_its_conversation_begins_anew(world: World, left: int) -> None:
    world.journal.spend(Usage(requests=5 - left, tokens=1000))

    end = world.work([say("", CLAIMS), say("Done.")])

    assert end.output is None
    assert "its budget of 5 requests is used up" in end.reason
    assert [len(asked.turns) for asked in world.asked] == [0] * left


def test_its_time_is_the_steps(world: World) -> None:
    end = world.work([say("", call("exec_command", {"cmd": "sleep 60"}))], cli_order(timeout_s=2))

    assert "no end within 2 s" in end.reason


def test_without_a_rule_its_last_words_are_its_output(world: World) -> None:
    assert world.work([say("The disk is full.")], cli_order(output=None)).output == "The disk is full."


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ("true", "no such file"),
        ("echo '{' > claim.json", "is not JSON"),
        ("echo NaN > claim.json", "is not JSON"),
        ("yes '[' | tr -d '\\n' | head -c 60000 > claim.json", "is not JSON"),
        ("for side in '[' ']'; do yes $side | tr -d '\\n' | head -c 700; done > claim.json", "is not JSON"),
        ("yes | head -c 70000 > claim.json", "is longer than"),
    ],
)
def test_a_claim_that_is_none_is_no_output(world: World, left: str, why: str) -> None:
    end = world.work([say("", call("exec_command", {"cmd": left})), say("Done.")])

    assert end.output is None
    assert why in end.reason


def test_what_it_claims_and_prints_is_redacted(world: World) -> None:
    world.redactor.learn("db", "hunter2-hunter2")
    said = call("exec_command", {"cmd": 'echo hunter2-hunter2; echo \'{"cause":"hunter2-hunter2"}\' > claim.json'})

    end = world.work([say("", said), say("It is hunter2-hunter2.")])

    assert "hunter2" not in str(end.output) + world.log
    assert "secret:db" in str(end.output)


def test_a_model_of_another_format_is_the_reason(world: World) -> None:
    assert "codex speaks openai-responses, and this step's model anthropic" in world.work([], api=Api.ANTHROPIC).reason


def test_an_image_without_it_is_the_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostGuest, "install", lambda _: None)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    assert "the step's image has no codex" in world.work([]).reason


@pytest.mark.parametrize(
    "step",
    [
        {"login": Login(user="reader", key="ssh")},
        {"grant": Grant(secrets=(SecretRef(name="ssh", engine="kv", path="kv/data/x", fields=("a",)),))},
    ],
)
def test_no_vm_with_a_secret_is_opened_for_it(world: World, step: dict[str, Any]) -> None:
    made = cli_order()
    order = replace(made, leg=replace(made.leg, step=replace(made.leg.step, **step)))

    with world.served([]) as (_, worker), pytest.raises(BadInput, match="has a secret"), worker.opened(order, nowhere):
        pytest.fail("it was opened")


def test_the_way_to_the_model_ends_with_the_block_and_our_loop_needs_none(world: World) -> None:
    plain = cli_order(rule=replace(RULE, cli=None))
    with world.served([]) as (doors, worker):
        with worker.opened(cli_order(), nowhere) as reaches:
            port = doors.ends[0].port
            assert reaches == (Reach(host="model", port=80, address="127.0.0.1", address_port=port),)
        assert doors.ends == ()
        with worker.opened(plain, nowhere) as none:
            assert none == ()
            assert doors.ends == ()
        end = worker.work(cli_order(), MemoryGuest(), world.journal, world.redactor, world.shown.append, lambda: False)
    assert "was not opened" in end.reason


def test_lines_come_whole_and_one_without_end_is_cut() -> None:
    heard: list[str] = []
    lines = Lines(heard.append)

    for piece in ("a\nb", "c\n\n", "x" * (1 << 20), "y" * 9, "z" * (2 << 20), "tail\nd"):
        lines.feed(piece)
    lines.close()

    assert heard == ["a", "bc", "[a line without end is not shown]", "d"]
