"""An agent's step from its order to its end. `AgentWork` implements `engine.domain.runners.Agents`."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.agents import child, cli, prompt
from engine.agents.calls import Calls, to_restore
from engine.agents.child import LoopEnded
from engine.agents.cleaning import cleaned
from engine.agents.door import Door, Doors
from engine.agents.gateway import GIVEN, Gateway, Pass
from engine.agents.inside import wire
from engine.agents.proxy import LOOPBACK, Threshold
from engine.agents.toolbox import Metrics, Toolbox
from engine.agents.transcript import Transcript
from engine.domain.agent import (
    AgentEnd,
    AgentRule,
    Asked,
    CommandRule,
    Conversation,
    ConversationJournal,
    Guest,
    Usage,
)
from engine.domain.errors import BadInput
from engine.domain.ports import Reach, Redactor
from engine.domain.runbook import ScriptStep
from engine.domain.runners import Order
from engine.domain.standing import Standing


class AgentWork:
    """Works agents' steps. `agents_md`: the text of the installation's agents.md, read at each step anew.

    `gateway`: where an agent asks from its VM whether it may proceed. `inside`: the folder of the loop's program.
    """

    def __init__(
        self,
        proxy: Doors,
        agents_md: Callable[[], str],
        metrics: Metrics | None = None,
        gateway: Gateway | None = None,
        *,
        inside: Path = child.INSIDE,
    ) -> None:
        self._proxy, self._agents_md, self._metrics, self._inside = proxy, agents_md, metrics, inside
        self._gateway = gateway
        self._ways: dict[str, _Ways] = {}

    @contextmanager
    def opened(self, order: Order, standing: Callable[[], Standing]) -> Iterator[tuple[Reach, ...]]:
        """See `Agents.opened`: our loop is on the host, its VM dials nobody for it; a coding CLI dials the proxy."""
        step, rule = prompt.agent_step(order)
        with ExitStack() as stack:
            threshold = None
            if rule.cli is not None:
                cli.must_fit(step)
                threshold = stack.enter_context(self._proxy.threshold())
            given = stack.enter_context(self._gateway.door(step.id, standing)) if self._gateway is not None else None
            self._ways[order.attempt_id] = ways = _Ways(given, threshold)
            stack.callback(self._ways.pop, order.attempt_id)
            yield (*ways.to_the_model, *((self._gateway.reach(),) if self._gateway is not None else ()))

    def work(
        self,
        order: Order,
        guest: Guest,
        journal: ConversationJournal,
        redactor: Redactor,
        on_output: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> AgentEnd:
        """See `Agents.work`."""
        transcript = Transcript(redactor, on_output)
        try:
            step, rule = prompt.agent_step(order)
            told = prompt.of(order, self._rules())
            so_far, ways = journal.so_far(), self._ways.get(order.attempt_id, NO_WAYS)
            ends_at = time.monotonic() + _time_left_s(step, so_far)
            if ways.given is not None:
                guest.write(GIVEN, json.dumps(dataclasses.asdict(ways.given)).encode())
                rule = _that_may_ask(rule)
            spending = _Spending(journal, so_far.usage)
            if rule.cli is None:
                toolbox = Toolbox(rule.tools, guest, redactor, self._metrics)
                _restore(so_far, toolbox, transcript)
                calls = Calls(rule, so_far, journal, toolbox, redactor, transcript)
                conversation = _Conversation(calls, journal, redactor, transcript, _most_words(rule, so_far))
                end = self._talk(rule, so_far, told, toolbox, conversation, spending, ends_at, stopped)
            else:
                with self._door(rule, spending, ends_at, ways.of_a_cli()) as door:
                    end = cli.work(step, told, door, guest, redactor, transcript, lambda: ends_at - time.monotonic())
                    end = _with_why(end, rule, spending, door, redactor)
        except BadInput as error:
            end = AgentEnd(reason=redactor(str(error)))
        if end.reason:
            transcript.note(f"ended: {end.reason}")
        return end

    def _rules(self) -> str:
        try:
            return self._agents_md()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the installation's agents.md cannot be read: {error}", "mend the file, retry") from None

    def _talk(
        self,
        rule: AgentRule,
        so_far: Conversation,
        told: prompt.Prompt,
        toolbox: Toolbox,
        conversation: _Conversation,
        spending: _Spending,
        ends_at: float,
        stopped: Callable[[], bool],
    ) -> AgentEnd:
        with self._door(rule, spending, ends_at) as door:
            try:
                with child.running(door.socket, ends_at, stopped, self._inside) as loop:
                    loop.tell(_start(rule, so_far, told, toolbox, door))
                    end = conversation.follow(loop)
            except LoopEnded as ended:
                end = AgentEnd(reason=str(ended))
            return _with_why(end, rule, spending, door, conversation.clean)

    def _door(
        self, rule: AgentRule, spending: _Spending, ends_at: float, at: Threshold | None = None
    ) -> AbstractContextManager[Door]:
        return self._proxy.door(
            model=rule.model,
            budget=rule.budget,
            used=spending.used,
            spend=spending.spend,
            lives_s=max(1.0, ends_at - time.monotonic()),
            at=at,
        )


@dataclass(frozen=True, slots=True)
class _Ways:
    """What was opened for one order: its pass for the gateway, and where a coding CLI reaches the model."""

    given: Pass | None = None
    threshold: Threshold | None = None

    def of_a_cli(self) -> Threshold:
        """Where it reaches the model. Raises BadInput: nowhere."""
        if self.threshold is None:
            raise BadInput("the way to the model was not opened before the VM", "this is a defect of the engine")
        return self.threshold

    @property
    def to_the_model(self) -> tuple[Reach, ...]:
        """What a coding CLI's VM may dial for it."""
        if self.threshold is None:
            return ()
        return (Reach(host=cli.HOST, port=cli.PORT, address=LOOPBACK, address_port=self.threshold.port),)


NO_WAYS = _Ways()


def _time_left_s(step: ScriptStep, so_far: Conversation) -> float:
    """What of the step's time earlier attempts of the conversation left. Raises BadInput: nothing."""
    left = step.timeout_s - so_far.worked_s
    if left <= 0:
        raise BadInput(f"its time of {step.timeout_s} s is used up, over all attempts that went on with one another")
    return left


def _that_may_ask(rule: AgentRule) -> AgentRule:
    """Whether it may proceed every agent may ask, whatever else its step grants."""
    tools = dataclasses.replace(rule.tools, run=(*rule.tools.run, CommandRule(argv=("signalbox", "gate", "check"))))
    return dataclasses.replace(rule, tools=tools)


def _with_why(end: AgentEnd, rule: AgentRule, spending: _Spending, door: Door, redactor: Redactor) -> AgentEnd:
    """The end; a reason with what of the budget is spent, or what the proxy refused last; all of it redacted."""
    why = rule.budget.spent(spending.used) or (door.refusals[-1] if door.refusals else "")
    reason = end.reason if not end.reason or why in end.reason else f"{end.reason}: {why}"
    return AgentEnd(output=end.output, asked=end.asked, reason=redactor(reason))


def _restore(so_far: Conversation, toolbox: Toolbox, transcript: Transcript) -> None:
    """What an earlier attempt had written, if this one goes on with it."""
    if so_far.messages:
        transcript.note("goes on from where an earlier attempt stopped")
        for trouble in toolbox.restore(to_restore(so_far.calls)):
            transcript.note(f"a file of the earlier attempt is missing: {trouble}")


class _Spending:
    """What the agent used, as the journal counts it."""

    def __init__(self, journal: ConversationJournal, used: Usage) -> None:
        self._journal, self.used = journal, used

    def spend(self, usage: Usage) -> Usage:
        """Add to it; a thread of the proxy calls this."""
        self.used = self._journal.spend(usage)
        return self.used


class _Conversation:
    """What the loop's process says, word by word, until it ends. `limit`: of words, more end it."""

    def __init__(
        self,
        calls: Calls,
        journal: ConversationJournal,
        redactor: Redactor,
        transcript: Transcript,
        limit: int,
    ) -> None:
        self._calls, self._journal, self.clean, self._transcript = calls, journal, redactor, transcript
        self._limit = limit

    def follow(self, loop: child.Loop) -> AgentEnd:
        """Raises LoopEnded with the reason when it ends otherwise than by its own word or a question to a person."""
        for _ in range(self._limit):
            word = loop.hear()
            if isinstance(word, wire.End):
                return self._end(word)
            if isinstance(word, wire.Said):
                self._keep(word)
                continue
            answer = self._calls.answer(word)
            if isinstance(answer, Asked):
                return AgentEnd(asked=answer)
            loop.tell(wire.Answer(id=word.id, text=answer))
        raise LoopEnded("its process talked without end")

    def _keep(self, word: wire.Said) -> None:
        messages = cleaned(word.messages, self.clean)
        self._journal.said(json.dumps(messages, ensure_ascii=False).encode("utf-8", "replace"))
        self._transcript.said(word.text)

    def _end(self, word: wire.End) -> AgentEnd:
        if word.output is None:
            return AgentEnd(reason=word.reason or "it gave no output")
        return AgentEnd(output=cleaned(word.output, self.clean))


def _start(rule: AgentRule, so_far: Conversation, told: prompt.Prompt, toolbox: Toolbox, door: Door) -> wire.Start:
    return wire.Start.model_validate(
        {
            "api": str(door.api),
            "model": door.model,
            "token": door.token,
            "socket": str(door.socket),
            "instructions": told.instructions,
            "user": told.user,
            "tools": [
                wire.ToolLine(name=spec.name, description=spec.description, parameters=dict(spec.schema))
                for spec in toolbox.specs()
            ],
            "finish": told.finish,
            "history": json.loads(so_far.messages) if so_far.messages else [],
            "requests": max(0, rule.budget.requests - so_far.usage.requests),
            "tokens": max(0, rule.budget.tokens - so_far.usage.tokens),
            "calls": rule.budget.calls + len(so_far.calls) + 1,  # a second line: the first is ours
        }
    )


def _most_words(rule: AgentRule, so_far: Conversation) -> int:
    """Well over what a loop within its budget says: twice a request, once a call."""
    return 4 * rule.budget.requests + rule.budget.calls + 2 * len(so_far.calls) + 20
