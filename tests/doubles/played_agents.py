"""An agent without a model: it makes the calls that it is told to, and keeps them as every agent must."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from engine.domain.agent import (
    AgentEnd,
    AgentRule,
    Asked,
    Budget,
    CallState,
    CommandResult,
    ConversationJournal,
    Guest,
    Tool,
    ToolCall,
    Usage,
)
from engine.domain.gate import Json
from engine.domain.ports import Reach, Redactor
from engine.domain.runbook import Runbook, ScriptStep
from engine.domain.runbook import Tool as Kind
from engine.domain.runners import Order
from engine.domain.standing import Standing
from tests.doubles.toy import toy_runbook

UNKNOWN = "its outcome is unknown: the worker died"
REQUEST = Usage(requests=1, tokens=100, microdollars=50)


def call(name: str, *argv: str, on: str = "target") -> ToolCall:
    """A command that a model asks for."""
    return ToolCall(id=name, tool=Tool.RUN, args={"argv": list(argv or ("df",)), "on": on})


def _log_growth() -> Json:
    return {"cause": "log_growth"}


@dataclass
class FakeGuest:
    """A VM whose commands print their own words. `heard`: what was run in it."""

    heard: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:
        self.heard.append(argv)
        return CommandResult(code=0, stdout=" ".join(argv), stderr="")

    def read(self, path: str, limit: int) -> bytes:
        raise AssertionError("nothing is read here")

    def write(self, path: str, content: bytes) -> None:
        raise AssertionError("nothing is written here")


@dataclass
class FakeAgents:
    """Works every agent's step by these calls. `asks`: ids of those that take a yes. `when`: called before and after a
    call is made with `begun ID` and `made ID`, and may die."""

    calls: tuple[ToolCall, ...] = (call("look", "df", "/srv"),)
    asks: frozenset[str] = frozenset()
    output: Json = field(default_factory=_log_growth)
    reason: str = ""
    more: tuple[Reach, ...] = ()
    when: Callable[[str], None] = lambda _what: None
    so_far: list[int] = field(default_factory=list)
    worked_s: list[float] = field(default_factory=list)
    standing: Callable[[], Standing] | None = None

    def opened(self, order: Order, standing: Callable[[], Standing]) -> AbstractContextManager[tuple[Reach, ...]]:
        self.standing = standing
        return nullcontext(self.more)

    def work(
        self,
        order: Order,
        guest: Guest,
        journal: ConversationJournal,
        redactor: Redactor,
        on_output: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> AgentEnd:
        known = journal.so_far()
        self.so_far.append(known.usage.requests)
        self.worked_s.append(known.worked_s)
        before = {record.call.id: record for record in known.calls}
        for each in self.calls:
            record = before.get(each.id)
            if record is not None and record.state is CallState.BEGUN:
                journal.end(each, CallState.DONE, UNKNOWN)
            if record is not None and record.state is not CallState.ASKED:
                continue
            journal.spend(REQUEST)
            if each.id in self.asks and each.id not in known.allowed:
                journal.end(each, CallState.ASKED, "")
                return AgentEnd(asked=Asked(call=each, why="it shows which unit writes"))
            self._make(each, guest, journal, on_output)
        return AgentEnd(reason=self.reason) if self.reason else AgentEnd(output=self.output)

    def _make(
        self, each: ToolCall, guest: Guest, journal: ConversationJournal, on_output: Callable[[str], None]
    ) -> None:
        journal.begin(each)
        self.when(f"begun {each.id}")
        argv = each.args["argv"]
        assert isinstance(argv, list)
        answer = guest.run(tuple(map(str, argv)), 10, 1000)
        self.when(f"made {each.id}")
        journal.end(each, CallState.DONE, answer.stdout)
        journal.said(f"[{each.id}]".encode())
        on_output(f"{each.id}: {answer.stdout}\n")


def with_agent(step_ids: Iterable[str] = ("diagnose",)) -> Runbook:
    """The toy, of which an agent works these steps."""
    rule = AgentRule(model="careful", budget=Budget(requests=20, tokens=10_000, calls=10))
    toy = toy_runbook()
    steps = tuple(
        replace(step, tool=Kind.AGENT, agent=rule) if isinstance(step, ScriptStep) and step.id in step_ids else step
        for step in toy.steps
    )
    return replace(toy, steps=steps)
