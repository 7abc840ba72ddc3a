"""An agent, played: it has one thing to say, and where its step has such a call it may ask for a person's yes first.

Called by `stage`. What it does about the call is what the machine's own journal tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from engine.domain.agent import (
    AgentEnd,
    Asked,
    CallState,
    CommandResult,
    ConversationJournal,
    Guest,
    Tool,
    ToolCall,
    Usage,
)
from engine.domain.errors import Unavailable
from engine.domain.gate import Json
from engine.domain.journey import Leg
from engine.domain.ports import Reach, Redactor
from engine.domain.runbook import ScriptStep
from engine.domain.runners import Order
from engine.domain.standing import Standing

THE_CALL = ToolCall(id="the-call", tool=Tool.RUN, args={"argv": ["simulated"]})


def may_ask(leg: Leg) -> bool:
    """Whether an agent of this leg may come to a call that takes a person's yes."""
    rule = leg.step.agent if isinstance(leg.step, ScriptStep) else None
    return rule is not None and any(command.ask for command in rule.tools.run)


def said_by(step: ScriptStep) -> Json:
    """The output of a step that did well; None when it has none."""
    rule = step.output
    return {name: rule.enums.get(name, ("simulated",))[0] for name in rule.required} if rule else None


class NoGuest:
    """A VM in which nothing is there."""

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:  # noqa: ARG002
        """Raises Unavailable."""
        raise Unavailable("nothing runs in a simulation")

    def read(self, path: str, limit: int) -> bytes:  # noqa: ARG002 - the protocol has it
        """Raises Unavailable."""
        raise Unavailable("nothing is read in a simulation")

    def write(self, path: str, content: bytes) -> None:  # noqa: ARG002 - the protocol has it
        """Raises Unavailable."""
        raise Unavailable("nothing is written in a simulation")


@dataclass(frozen=True, slots=True)
class SimulatedAgents:
    """`asks`: whether whoever works now comes to a call that takes a yes. `called`: hears of one that is made."""

    asks: Callable[[], bool] = lambda: False
    called: Callable[[str], None] = lambda _leg: None

    def opened(
        self,
        order: Order,  # noqa: ARG002 - the port has it
        standing: Callable[[], Standing],  # noqa: ARG002 - as above
    ) -> AbstractContextManager[tuple[Reach, ...]]:
        """Nothing."""
        return nullcontext(())

    def work(
        self,
        order: Order,
        guest: Guest,  # noqa: ARG002 - the protocol has it
        journal: ConversationJournal,
        redactor: Redactor,  # noqa: ARG002 - as above
        on_output: Callable[[str], None],  # noqa: ARG002 - as above
        stopped: Callable[[], bool],  # noqa: ARG002 - as above
    ) -> AgentEnd:
        """Make the call if the journal says that somebody allowed it, ask about it if that is chosen, and end."""
        known = journal.so_far()
        states = {record.call.id: record.state for record in known.calls}
        journal.spend(Usage(requests=1, tokens=1))
        if THE_CALL.id in known.allowed and states.get(THE_CALL.id) is CallState.ASKED:
            journal.begin(THE_CALL)
            self.called(order.leg.id)
            journal.end(THE_CALL, CallState.DONE, "simulated")
        elif self.asks() and THE_CALL.id not in states:
            journal.end(THE_CALL, CallState.ASKED, "")
            return AgentEnd(asked=Asked(call=THE_CALL, why="simulated"))
        step = order.leg.step
        said = said_by(step) if isinstance(step, ScriptStep) else None
        return AgentEnd(output="simulated" if said is None else said)
