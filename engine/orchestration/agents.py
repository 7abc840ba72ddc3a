"""An agent's attempt: its VM is attended, and what came of its work takes the place of what a command printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from engine.domain.agent import AgentEnd, ConversationJournal, Guest
from engine.domain.errors import Refused, SignalboxError, Unavailable
from engine.domain.ports import Ending, Redactor, TaskResult, VmTask
from engine.domain.runbook import Access, ScriptStep, Tool
from engine.domain.runners import Agents, Attends, Order
from engine.domain.standing import Standing
from engine.orchestration.adapters import Adapters

KEPT_CHARACTERS = 64_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attending:
    """Who attends the VMs of agents here: who works in them, and whose VMs they are."""

    agents: Agents
    hypervisor: Attends

    @contextmanager
    def opened(self, order: Order, standing: Callable[[], Standing]) -> Iterator[Order]:
        """The order, with what an agent's VM may dial besides: our own ends, which no approval binds."""
        with self.agents.opened(order, standing) as reaches:
            yield replace(order, reaches=(*order.reaches, *reaches))

    def attempt(
        self,
        order: Order,
        task: VmTask,
        journal: ConversationJournal,
        redactor: Redactor,
        on_output: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Attended:
        """Work in a VM of its own. Raises what `Attends` raises before the work began; nothing after that."""
        transcript = _Transcript(on_output)
        ends: list[AgentEnd] = []
        begun: list[Guest] = []

        def work(guest: Guest) -> None:
            begun.append(guest)
            ends.append(self.agents.work(order, guest, journal, redactor, transcript.hear, stopped))

        try:
            result = self.hypervisor.attend(task, redactor, transcript.hear, work)
        except SignalboxError as error:
            if not begun:
                raise
            result, ends = _broken(error), []  # the conversation could not be had or kept: nothing is assumed
        return _attended(result, ends[0] if ends else None, transcript, redactor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What an agent's VM and its work came to. `result`: with the transcript as what was printed, and the output as its
    last line. `end`: None when the VM ended first, or the work broke."""

    result: TaskResult
    end: AgentEnd | None

    @property
    def has_output(self) -> bool:
        """Whether there is an output, to be held to the step's rule."""
        return self.end is not None and self.end.asked is None and self.end.output is not None

    @property
    def why_none(self) -> str:
        """Why there is no output."""
        if self.end is None:
            return self.result.reason or "its VM ended before it did"
        return self.end.reason or "it ended without an output"


def attending(adapters: Adapters, step: ScriptStep) -> Attending | None:
    """Who attends the VM of this step; None for one that no agent works. Raises Refused where nobody can."""
    if step.tool is not Tool.AGENT:
        return None
    if step.access is Access.WRITE:
        raise Refused("an agent changes no target", "let it make an artefact, which a step of another kind applies")
    if adapters.agents is None:
        raise Refused(
            "no models are configured, so no agent works here",
            "write the file that SIGNALBOX_MODELS names, look at it with signalbox model list, start the worker anew",
        )
    if not isinstance(adapters.hypervisor, Attends):
        raise Refused("this hypervisor does not attend VMs, so no agent works here", "use the one of libvirt")
    return Attending(agents=adapters.agents, hypervisor=adapters.hypervisor)


@dataclass(slots=True)
class _Transcript:
    """What is told of an agent's work, as it comes, and its end for what is kept of the attempt."""

    tell: Callable[[str], None]
    text: str = ""

    def hear(self, text: str) -> None:
        self.text = (self.text + text)[-KEPT_CHARACTERS:]
        self.tell(text)


def _attended(result: TaskResult, end: AgentEnd | None, transcript: _Transcript, redactor: Redactor) -> Attended:
    printed = transcript.text
    if result.ending is not Ending.EXITED:
        end = None  # whatever it said last: its VM did not live to the end of its work
    if end is not None and end.asked is None and end.output is not None:
        printed = f"{printed.rstrip()}\n{redactor(json.dumps(end.output))}\n".lstrip()
    return Attended(result=replace(result, stdout=printed), end=end)


def _broken(error: SignalboxError) -> TaskResult:
    what = "the work could not go on" if isinstance(error, Unavailable) else "the work was refused"
    reason = f"{what}: {error}" + (f" ({error.remedy})" if error.remedy else "")
    return TaskResult(
        ending=Ending.CANCELLED, code=None, stdout="", stderr="", truncated=False, reason=reason, seconds=0
    )
