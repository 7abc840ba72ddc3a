"""What an agent's step meets, by hand: a VM of a few files, a journal in memory, a door to a scripted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.agents.keyless import plain
from engine.agents.proxy import Threshold
from engine.agents.replay import ReplayServer
from engine.agents.replay.conversation import Model
from engine.domain.agent import (
    AgentRule,
    Api,
    Budget,
    CallRecord,
    CallState,
    CommandResult,
    CommandRule,
    Conversation,
    LogSource,
    ToolCall,
    Tools,
    Usage,
    Where,
)
from engine.domain.errors import BadInput, Unavailable
from engine.domain.runbook import OutputRule, Tool
from engine.domain.runners import Order
from engine.domain.standing import Standing
from tests.unit.runtime.orders import STEP, order

BUDGET = Budget(requests=10, tokens=100_000, calls=5)
TOOLS = Tools(
    run=(CommandRule(argv=("df", "*")), CommandRule(argv=("systemctl", "status", "*"), on=Where.TARGET, ask=True)),
    reads=("/step/**",),
    writes=("/step/out/**",),
    logs=(LogSource(name="service", argv=("tail", "/srv/log")),),
)
RULE = AgentRule(model="careful", budget=BUDGET, tools=TOOLS, context=("disks.md",))
FILES = {"diagnose.md": b"Find out why the disk is full.", "disks.md": b"Disks have inodes."}
OUTPUT = OutputRule(required=("cause", "evidence"), enums={"cause": ("log_growth", "unknown")})


def agent_order(rule: AgentRule = RULE, output: OutputRule | None = OUTPUT, **more: Any) -> Order:
    """An order for a step of an agent that diagnoses."""
    timeout_s = more.pop("timeout_s", 60)
    script = replace(STEP.script, file="diagnose.md")
    step = replace(STEP, id="diagnose", script=script, tool=Tool.AGENT, agent=rule, output=output, timeout_s=timeout_s)
    made = order(step, **more)
    return replace(made, snapshot=replace(made.snapshot, files=FILES))


class WorkerDied(BaseException):
    """What a killed worker is to a test: nothing of ours catches it."""


@dataclass
class MemoryGuest:
    """A VM that keeps files and answers commands: `answers`: by first word. `gone`: it was destroyed.

    `dies_at`: the worker dies after this command had its effect.
    """

    answers: Mapping[str, str] = field(default_factory=lambda: {"df": "99%"})
    files: dict[str, bytes] = field(default_factory=dict)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    gone: bool = False
    dies_at: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:
        """Its scripted answer; `realpath` finds the links."""
        if self.gone:
            raise Unavailable("the VM is gone")
        argv = plain(argv)
        if Path(argv[0]).name == "realpath":
            return CommandResult(code=0, stdout=self.links.get(argv[-1], argv[-1]) + "\n", stderr="")
        self.ran.append(argv)
        if self.dies_at == argv[0]:
            raise WorkerDied
        return CommandResult(code=0, stdout=self.answers.get(argv[0], ""), stderr="")

    def read(self, path: str, limit: int) -> bytes:
        """Its bytes."""
        if path not in self.files:
            raise BadInput(f"{path}: no such file")
        return self.files[path]

    def write(self, path: str, content: bytes) -> None:
        """Put it there."""
        self.files[path] = content


@dataclass
class MemoryJournal:
    """A conversation that outlives its worker. `heard`: each act in order, for who checks what came before what."""

    conversation: Conversation = field(default_factory=Conversation)
    heard: list[str] = field(default_factory=list)

    def so_far(self) -> Conversation:
        """As it stands."""
        return self.conversation

    def said(self, messages: bytes) -> None:
        """Kept."""
        self.heard.append("said")
        self.conversation = replace(self.conversation, messages=messages)

    def spend(self, usage: Usage) -> Usage:
        """Added up."""
        self.conversation = replace(self.conversation, usage=self.conversation.usage + usage)
        return self.conversation.usage

    def begin(self, call: ToolCall) -> None:
        """Kept as begun."""
        self._keep(call, CallState.BEGUN, "")

    def end(self, call: ToolCall, state: CallState, answer: str) -> None:
        """Kept with its end."""
        self._keep(call, state, answer)

    def decide(self, call_id: str, *, yes: bool) -> None:
        """A person's word on an asked call."""
        decided = frozenset({call_id})
        with_yes, with_no = replace(self.conversation, allowed=decided), replace(self.conversation, denied=decided)
        self.conversation = with_yes if yes else with_no

    def states(self) -> dict[str, CallState]:
        """Where each call is, by id."""
        return {record.call.id: record.state for record in self.conversation.calls}

    def _keep(self, call: ToolCall, state: CallState, answer: str) -> None:
        self.heard.append(f"{state} {call.id}")
        known = {record.call.id: record for record in self.conversation.calls}
        at = known[call.id].order if call.id in known else len(known) + 1
        known[call.id] = CallRecord(call=call, state=state, order=at, answer=answer)
        self.conversation = replace(self.conversation, calls=tuple(known.values()))


@dataclass(frozen=True)
class OpenDoor:
    """A door of the test's."""

    socket: Path
    token: str
    api: Api
    model: str
    refusals: list[str]


@dataclass
class ScriptedDoors:
    """Doors to a scripted model. `served`: the server of the last door, for what it was asked."""

    model: Model
    api: Api = Api.ANTHROPIC
    refusals: list[str] = field(default_factory=list)
    served: list[ReplayServer] = field(default_factory=list)

    def threshold(self) -> AbstractContextManager[Threshold]:
        """Raises Unavailable: a test that has a CLI takes the real proxy."""
        raise Unavailable("no threshold here")

    @contextmanager
    def door(
        self,
        *,
        model: str,
        budget: Budget,
        used: Usage,
        spend: Callable[[Usage], Usage],
        lives_s: float,
        at: Threshold | None = None,
    ) -> Iterator[OpenDoor]:
        """A server of its own, by a unix socket alone in a folder."""
        with TemporaryDirectory() as folder:
            socket = Path(folder) / "model.sock"
            with ReplayServer(self.model, socket_path=socket, key="token-of-the-step") as server:
                self.served.append(server)
                yield OpenDoor(socket, "token-of-the-step", self.api, model, self.refusals)


def nowhere() -> Standing:
    """For an order of no run: where it stands cannot be told."""
    raise Unavailable("there is no run")
