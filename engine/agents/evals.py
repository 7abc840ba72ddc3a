"""How good an agent is at a step: the step run over recorded situations, its gate the evaluator.

Called by `signalbox agent eval`. What is judged is the claim, by the checks of the step's gate that are `expr` over it,
and claim and left files by what the situation says is right. What else its gate measures needs a target, and is the
runbook's own test.
"""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pydantic_evals import Case, Dataset
from pydantic_evals.evaluators import EvaluationReason, Evaluator, EvaluatorContext
from pydantic_evals.reporting import ReportCase, ReportCaseFailure

from engine.agents.recorded import Kept, Recorded
from engine.agents.situations import Situation, agent_step
from engine.agents.toolbox import Metrics
from engine.domain.agent import AgentEnd, Usage
from engine.domain.errors import Refused, SignalboxError
from engine.domain.gate import ExprCheck, Json, Sample
from engine.domain.journey import Role, plan
from engine.domain.ports import Ending, Redactor, TaskResult
from engine.domain.runbook import GateStep, Runbook, Snapshot
from engine.domain.runners import Agents, Conclusion, Order
from engine.domain.states import Verdict

Claims = Mapping[str, Json]
Judge = Callable[[ExprCheck, Claims], Sample]
Condition = Callable[[str, Mapping[str, Json]], Sample]
Hired = Callable[[Situation, Metrics], AbstractContextManager[Agents]]
""" Who works in a situation, with these metrics. """
_WORST_FIRST = (Verdict.ERROR, Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.HELD)


class Outcome(enum.StrEnum):
    """What an agent came to in a situation."""

    RIGHT = "right"
    WRONG = "wrong"
    """ It claims what is not so. If its gate would hold too, only independent checks stand before the change. """

    NO_CLAIM = "no claim"
    ASKED = "asks a person"
    BROKEN = "broken"
    """ It could not be tried: no model, a tape that does not fit. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One situation, once. `gate`: what its claim checks say, None without a claim or without such checks.

    `why`: one line. `unrecorded`: what the agent asked for and nobody recorded. `seconds`: of its work.
    """

    situation: str
    outcome: Outcome
    gate: Verdict | None
    why: str
    usage: Usage
    seconds: float
    unrecorded: tuple[str, ...]
    refused: int

    @property
    def passed(self) -> bool:
        """Right, and nothing that its gate says against it. An honest *unknown* keeps the gate shut, and may pass."""
        return self.outcome is Outcome.RIGHT and self.gate not in {Verdict.FAILED, Verdict.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an evaluation needs from elsewhere. `judge`: a check of the gate. `condition`: CEL over these variables.

    `conclude`: holds an output to the step's rule, as in a run.
    """

    hired: Hired
    judge: Judge
    condition: Condition
    conclude: Callable[[Order, TaskResult], Conclusion]
    redactor: Redactor
    on_output: Callable[[str], None]


def evaluate(
    snapshot: Snapshot, step: str, situations: Sequence[Situation], bench: Bench, times: int = 1
) -> tuple[Tried, ...]:
    """Each situation, `times` times, one after the other. Raises BadInput: no such step."""
    agent_step(snapshot.runbook, step)
    dataset: Dataset[Situation, _Worked, None] = Dataset(  # not made generic: pydantic cannot read our recursive Json
        name=f"{snapshot.runbook.name}/{step}",
        cases=[Case(name=situation.name, inputs=situation) for situation in situations],
        evaluators=[_ByItsGate(claim_checks(snapshot.runbook, step), step, bench.judge, bench.condition)],
    )

    async def all_of_them() -> tuple[Tried, ...]:
        whole = asyncio.current_task()

        def stopped() -> bool:
            return whole is not None and whole.cancelling() > 0  # somebody pressed Ctrl-C

        def tried(situation: Situation) -> _Worked:
            return _work(_order(snapshot, step, situation), situation, bench, stopped)

        report = await dataset.evaluate(tried, max_concurrency=1, progress=False, repeat=times)
        return (*map(_tried, report.cases), *map(_broken, report.failures))

    return asyncio.run(all_of_them())


def claim_checks(runbook: Runbook, step: str) -> tuple[ExprCheck, ...]:
    """What the step's gate asks of its claim. One in shadow, or one of a quorum, need not hold."""
    return tuple(
        check
        for gate in runbook.steps
        if isinstance(gate, GateStep)
        for check in gate.checks
        if isinstance(check, ExprCheck) and check.of == step
    )


# -- one situation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worked:
    """What an agent left. `left`: files under /step/out, by path within. `trouble`: the outcome, when it left no claim.

    `nothing`: that it left no file is all the trouble, which may be right.
    """

    claim: Json
    left: Mapping[str, Json]
    nothing: bool
    trouble: Outcome | None
    why: str
    usage: Usage
    unrecorded: tuple[str, ...]
    refused: int


def _order(snapshot: Snapshot, step: str, situation: Situation) -> Order:
    legs = {leg.id: leg for leg in plan(snapshot.runbook).line if leg.role is Role.FORWARD}
    chosen, _ = agent_step(snapshot.runbook, step)
    return Order(
        attempt_id="evaluation",
        run_id="evaluation",
        leg=legs[step],
        snapshot=snapshot,
        args=(),
        inputs=situation.inputs,
        claims=situation.claims,
        target=snapshot.runbook.targets[chosen.target] if chosen.target is not None else None,
        site=None,
        reaches=(),
        artefact=None,
    )


def _work(order: Order, situation: Situation, bench: Bench, stopped: Callable[[], bool]) -> _Worked:
    _, rule = agent_step(order.snapshot.runbook, order.leg.id)
    recorded, kept = Recorded(situation, rule.tools.logs), Kept()
    try:
        with bench.hired(situation, recorded.metrics) as agents:
            end = agents.work(order, recorded, kept, bench.redactor, bench.on_output, stopped)
        claim, trouble, why = _claim(order, end, recorded, bench)
        nothing = trouble is Outcome.NO_CLAIM and end.output is not None and _should_leave(order) and not recorded.out
    except SignalboxError as error:
        claim, trouble, why, nothing = None, Outcome.BROKEN, str(error), False
    return _Worked(
        claim=claim,
        left={path: data.decode("utf-8", "replace") for path, data in recorded.out.items()},
        nothing=nothing,
        trouble=trouble,
        why=why,
        usage=kept.usage,
        unrecorded=tuple(recorded.unrecorded),
        refused=kept.refused,
    )


def _claim(order: Order, end: AgentEnd, recorded: Recorded, bench: Bench) -> tuple[Json, Outcome | None, str]:
    if end.asked is not None:
        return None, Outcome.ASKED, end.asked.why
    if end.output is None:
        return None, Outcome.NO_CLAIM, end.reason
    result = TaskResult(
        ending=Ending.EXITED,
        code=0,
        stdout=json.dumps(end.output),
        stderr="",
        truncated=False,
        reason="",
        seconds=0,
        files=recorded.out,
    )
    conclusion = bench.conclude(order, result)
    return conclusion.output, None if conclusion.ok else Outcome.NO_CLAIM, conclusion.reason


def _should_leave(order: Order) -> bool:
    step, _ = agent_step(order.snapshot.runbook, order.leg.id)
    return step.produces is not None and step.output is None


# -- judging it -------------------------------------------------------------------------------------------------------


@dataclass(repr=False)
class _ByItsGate(Evaluator[Situation, _Worked, None]):
    """The gate is the evaluator; the situation says what is right."""

    checks: tuple[ExprCheck, ...]
    step: str
    judge: Judge
    condition: Condition

    def evaluate(self, ctx: EvaluatorContext[Situation, _Worked, None]) -> dict[str, Any]:
        """`outcome`, and `gate` where there is a claim that its gate judges."""
        worked = ctx.output
        right = self.condition(ctx.inputs.right, {"out": worked.claim, "left": dict(worked.left)})
        if worked.trouble is not None and not (worked.nothing and right.verdict is Verdict.HELD):
            return {"outcome": EvaluationReason(worked.trouble.value, worked.why)}
        claims = {self.step: worked.claim}
        samples = [self.judge(check, claims) for check in self.checks]
        found: dict[str, Any] = {}
        if samples:
            worst = min(samples, key=lambda sample: _WORST_FIRST.index(sample.verdict))
            found["gate"] = EvaluationReason(worst.verdict.value, worst.why)
        outcome = Outcome.RIGHT if right.verdict is Verdict.HELD else Outcome.WRONG
        return found | {"outcome": EvaluationReason(outcome.value, right.why)}


def _broken(case: ReportCaseFailure[Situation, _Worked, None]) -> Tried:
    """What was raised and is no error of ours: a defect, which is told and never left out."""
    return Tried(
        situation=case.name,
        outcome=Outcome.BROKEN,
        gate=None,
        why=case.error_message,
        usage=Usage(),
        seconds=0,
        unrecorded=(),
        refused=0,
    )


def _tried(case: ReportCase[Situation, _Worked, None]) -> Tried:
    if case.evaluator_failures:
        raise Refused(f"{case.name} could not be judged: {case.evaluator_failures[0].error_message}")
    outcome, gate, worked = case.labels["outcome"], case.labels.get("gate"), case.output
    verdict = Verdict(gate.value) if gate is not None else None
    against = gate is not None and verdict in {Verdict.FAILED, Verdict.ERROR}
    return Tried(
        situation=case.name,
        outcome=Outcome(outcome.value),
        gate=verdict,
        why=(gate.reason if against and gate is not None else outcome.reason) or "",
        usage=worked.usage,
        seconds=case.task_duration,
        unrecorded=worked.unrecorded,
        refused=worked.refused,
    )
