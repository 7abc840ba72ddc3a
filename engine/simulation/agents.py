"""Agents without a model and without a VM, so that a simulation drives their steps as any other. Used by `stage`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from engine.domain.agent import AgentEnd, CommandResult, ConversationJournal, Guest
from engine.domain.errors import Unavailable
from engine.domain.gate import Json
from engine.domain.ports import Reach, Redactor
from engine.domain.runbook import ScriptStep
from engine.domain.runners import Order


def said_by(step: ScriptStep) -> Json:
    """The output of a step that did well; None when it has none."""
    rule = step.output
    return {name: rule.enums.get(name, ("simulated",))[0] for name in rule.required} if rule else None


class NoGuest:
    """A VM in which nothing runs: no agent of a simulation has anything to do."""

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:  # noqa: ARG002
        """Raises Unavailable, as the others do."""
        raise Unavailable("nothing runs in a simulation")

    def read(self, path: str, limit: int) -> bytes:  # noqa: ARG002 - the port has them
        """Raises Unavailable."""
        raise Unavailable("nothing is read in a simulation")

    def write(self, path: str, content: bytes) -> None:  # noqa: ARG002 - the port has them
        """Raises Unavailable."""
        raise Unavailable("nothing is written in a simulation")


class SimulatedAgents:
    """Agents without a model: each says at once what its step may say."""

    def opened(self, order: Order) -> AbstractContextManager[tuple[Reach, ...]]:  # noqa: ARG002 - the port has it
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
        """See `Agents`."""
        del guest, journal, redactor, on_output, stopped
        step = order.leg.step
        said = said_by(step) if isinstance(step, ScriptStep) else None
        return AgentEnd(output="simulated" if said is None else said)
