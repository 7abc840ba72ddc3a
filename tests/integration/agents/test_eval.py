"""An agent's step over recorded situations: its gate, and what is right there, judge what it claims."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.agents import policy
from engine.agents.evals import Bench, Outcome, Tried, claim_checks, evaluate
from engine.agents.situations import Situation, agent_step, situations
from engine.agents.toolbox import Metrics, Toolbox
from engine.commands.agent_eval import enough, lines
from engine.domain.agent import (
    AgentEnd,
    Asked,
    ConversationJournal,
    Guest,
    Tool,
    ToolCall,
    Usage,
)
from engine.domain.errors import Unavailable
from engine.domain.gate import ExprCheck, Facts, Sample
from engine.domain.ports import Reach, Redactor
from engine.domain.runners import Agents, Order
from engine.domain.standing import Standing
from engine.domain.states import Verdict
from engine.gates import condition, expr
from engine.proving.kinds.port import no_probe
from engine.runbooks.shelf import Shelf
from engine.runtime.runners.agent import AgentRunner
from engine.secrets.redact import Redactor as RealRedactor
from tests.doubles.situations import STUCK, WELL, write_runbook

Ask = Callable[..., str]
Act = Callable[[Ask, Callable[[], bool]], AgentEnd]


@dataclass(frozen=True)
class ByHand:
    """Works a step as a function says that has its tools."""

    act: Act
    metrics: Metrics

    def opened(self, order: Order, standing: Callable[[], Standing]) -> AbstractContextManager[tuple[Reach, ...]]:
        """Nothing."""
        return nullcontext(())

    def work(
        self,
        order: Order,
        guest: Guest,
        journal: ConversationJournal,
        redactor: Redactor,
        on_output: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> AgentEnd:
        """One request that costs a cent."""
        _, rule = agent_step(order.snapshot.runbook, order.leg.id)
        toolbox = Toolbox(rule.tools, guest, redactor, self.metrics)
        journal.spend(Usage(requests=1, tokens=1000, microdollars=10_000))
        on_output("looks\n")

        def ask(tool: str, **args: object) -> str:
            call = ToolCall(id="c", tool=Tool(tool), args=args)  # type: ignore[arg-type]
            return toolbox.make(call, policy.rule_on(call, rule.tools))

        return self.act(ask, stopped)


def _tried(folder: Path, act: Act, *, times: int = 1, **told: str) -> tuple[Tried, ...]:
    write_runbook(folder, told or {"stuck": STUCK})
    snapshot = Shelf(folder).read("example")

    @contextlib.contextmanager
    def hired(_: Situation, metrics: Metrics) -> Iterator[Agents]:
        yield ByHand(act, metrics)

    def judge(check: ExprCheck, claims: object) -> Sample:
        return expr.measure(check, Facts(inputs={}, claims=claims, digests={}), no_probe)  # type: ignore[arg-type]

    bench = Bench(
        hired=hired,
        judge=judge,
        condition=lambda expression, variables: condition.judge(expression, variables, {}),
        conclude=AgentRunner().conclude,
        redactor=RealRedactor(),
        on_output=lambda _: None,
    )
    return evaluate(snapshot, "diagnose", situations(snapshot, "diagnose"), bench, times)


def _looks(ask: Ask, _: Callable[[], bool]) -> AgentEnd:
    answer = ask("run", on="target", argv=["systemctl", "status", "web"])
    return AgentEnd(output={"cause": "stuck" if "deactivating" in answer else "unknown"})


def _claims(cause: str) -> Act:
    return lambda _, __: AgentEnd(output={"cause": cause})


def test_one_that_looks(tmp_path: Path) -> None:
    """Is right in each situation. An honest unknown keeps its gate shut, and passes."""
    well, stuck = sorted(_tried(tmp_path, _looks, stuck=STUCK, well=WELL), key=lambda one: one.situation, reverse=True)

    assert (stuck.outcome, stuck.gate, stuck.passed) == (Outcome.RIGHT, Verdict.HELD, True)
    assert (well.outcome, well.gate, well.passed) == (Outcome.RIGHT, Verdict.INCONCLUSIVE, True)
    assert stuck.usage == Usage(requests=1, tokens=1000, microdollars=10_000)
    assert stuck.unrecorded == ()


def test_one_that_guesses(tmp_path: Path) -> None:
    """Is right by chance and wrong by chance; that the gate would hold on a wrong claim is told."""
    tried = _tried(tmp_path, _claims("stuck"), stuck=STUCK, well=WELL)
    printed = "\n".join(lines(tried, 100))

    assert [(one.situation, one.passed, one.gate) for one in tried] == [
        ("stuck", True, Verdict.HELD),
        ("well", False, Verdict.HELD),
    ]
    assert "well: wrong: not out.cause ==" in printed
    assert "1 of 2 passed (50 %); 1 wrong with a gate that holds on the claim" in printed
    assert "at least 100 % must" in printed
    assert (enough(tried, 50), enough(tried, 51)) == (True, False)


def test_the_gate_speaks_against_what_is_right(tmp_path: Path) -> None:
    """A situation that allows what its gate refuses does not pass: the gate is the evaluator."""
    (tried,) = _tried(tmp_path, _claims("unknown"), stuck=STUCK.replace('"stuck"', '"unknown"'))
    (wrong,) = _tried(tmp_path, _claims("stuck"), stuck=STUCK.replace('out.cause == "stuck"', "out.nothing"))

    assert tried.passed
    assert (wrong.outcome, wrong.passed) == (Outcome.WRONG, False)


@pytest.mark.parametrize(
    ("act", "outcome", "why"),
    [
        (_claims("magic"), Outcome.NO_CLAIM, "the output's cause is none of stuck, unknown"),
        (lambda _, __: AgentEnd(reason="its budget is used up"), Outcome.NO_CLAIM, "its budget is used up"),
        (
            lambda _, __: AgentEnd(asked=Asked(call=ToolCall(id="c", tool=Tool.RUN, args={}), why="may I?")),
            Outcome.ASKED,
            "may I?",
        ),
    ],
)
def test_no_claim(tmp_path: Path, act: Act, outcome: Outcome, why: str) -> None:
    """Nothing to judge never passes."""
    (tried,) = _tried(tmp_path, act)

    assert (tried.outcome, tried.gate, tried.why, tried.passed) == (outcome, None, why, False)


@pytest.mark.parametrize("error", [Unavailable("no model"), RuntimeError("a defect")])
def test_what_could_not_be_tried_is_told(tmp_path: Path, error: Exception) -> None:
    """It is a row that did not pass, never one less."""

    def breaks(_: Ask, __: Callable[[], bool]) -> AgentEnd:
        raise error

    (tried,) = _tried(tmp_path, breaks)

    assert (tried.outcome, tried.passed) == (Outcome.BROKEN, False)
    assert str(error) in tried.why


def test_what_nobody_recorded_is_counted(tmp_path: Path) -> None:
    """The agent is told so; the table names it."""

    def wanders(ask: Ask, _: Callable[[], bool]) -> AgentEnd:
        answers = [
            ask("run", on="target", argv=["systemctl", "status", "db"]),
            ask("metrics", query="web_memory"),
            ask("metrics", query="web_queue"),
            ask("logs", name="web"),
        ]
        assert ["no such situation recorded" in answer for answer in answers] == [True, True, False, False]
        return AgentEnd(output={"cause": "stuck"})

    (tried,) = _tried(tmp_path, wanders)

    assert tried.unrecorded == ("target: systemctl status db", "metrics web_memory")
    assert "stuck: nobody recorded what this answers: target: systemctl status db" in "\n".join(lines([tried], 100))


def test_several_times(tmp_path: Path) -> None:
    """Each try is a row."""
    tried = _tried(tmp_path, _looks, times=3)

    assert len(tried) == 3
    assert len({one.situation for one in tried}) == 3


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C is heard, also where whoever started the tests had it ignored (a shell's background job)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_stops_the_agent(tmp_path: Path) -> None:
    """The step is told to stop; nobody waits for the end of its time."""
    never = threading.Event()
    left: list[int] = []

    def goes_on(_: Ask, stopped: Callable[[], bool]) -> AgentEnd:
        os.kill(os.getpid(), signal.SIGINT)
        left.extend(range(600))
        while left and not stopped():
            left.pop()
            never.wait(0.05)
        return AgentEnd(reason="stopped")

    with pytest.raises(KeyboardInterrupt):
        _tried(tmp_path, goes_on)

    assert left


def test_which_checks_judge(tmp_path: Path) -> None:
    """Those of type expr over this step's claim, and no others of its gate."""
    write_runbook(tmp_path, {})
    runbook = Shelf(tmp_path).read("example").runbook

    assert [check.id for check in claim_checks(runbook, "diagnose")] == ["cause"]
    assert claim_checks(runbook, "fix") == ()
