"""An agent's step from its order to its end. `AgentWork` implements `engine.domain.runners.Agents`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from engine.agents import child, cli, prompt
from engine.agents.calls import Calls, to_restore
from engine.agents.child import LoopEnded
from engine.agents.cleaning import cleaned
from engine.agents.door import Door, Doors
from engine.agents.inside import wire
from engine.agents.proxy import LOOPBACK, Threshold
from engine.agents.toolbox import Metrics, Toolbox
from engine.agents.transcript import Transcript
from engine.domain.agent import (
    AgentEnd,
    AgentRule,
    Asked,
    Conversation,
    ConversationJournal,
    Guest,
    Usage,
)
from engine.domain.errors import BadInput
from engine.domain.ports import Reach, Redactor
from engine.domain.runners import Order


class AgentWork:
    """Works agents' steps. `agents_md`: the text of the installation's agents.md, read at each step anew.

    `inside`: the folder of the loop's program.
    """

    def __init__(
        self,
        proxy: Doors,
        agents_md: Callable[[], str],
        metrics: Metrics | None = None,
        *,
        inside: Path = child.INSIDE,
    ) -> None:
        self._proxy, self._agents_md, self._metrics, self._inside = proxy, agents_md, metrics, inside
        self._thresholds: dict[str, Threshold] = {}

    @contextmanager
    def opened(self, order: Order) -> Iterator[tuple[Reach, ...]]:
        """See `Agents.opened`: our loop is on the host, its VM dials nobody for it; a coding CLI dials the proxy."""
        step, rule = prompt.agent_step(order)
        if rule.cli is None:
            yield ()
            return
        cli.must_fit(step)
        with self._proxy.threshold() as threshold:
            self._thresholds[order.attempt_id] = threshold
            try:
                yield (Reach(host=cli.HOST, port=cli.PORT, address=LOOPBACK, address_port=threshold.port),)
            finally:
                del self._thresholds[order.attempt_id]

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
            ends_at = time.monotonic() + step.timeout_s
            told = prompt.of(order, self._agents_md())
            so_far = journal.so_far()
            spending = _Spending(journal, so_far.usage)
            if rule.cli is None:
                toolbox = Toolbox(rule.tools, guest, redactor, self._metrics)
                _restore(so_far, toolbox, transcript)
                calls = Calls(rule, so_far, journal, toolbox, redactor, transcript)
                conversation = _Conversation(calls, journal, redactor, transcript, _most_words(rule, so_far))
                end = self._talk(rule, so_far, told, toolbox, conversation, spending, ends_at, stopped)
            else:
                with self._door(rule, spending, ends_at, self._threshold_of(order)) as door:
                    end = cli.work(step, told, door, guest, redactor, transcript, lambda: ends_at - time.monotonic())
                    end = _with_why(end, rule, spending, door, redactor)
        except BadInput as error:
            end = AgentEnd(reason=redactor(str(error)))
        if end.reason:
            transcript.note(f"ended: {end.reason}")
        return end

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

    def _threshold_of(self, order: Order) -> Threshold:
        known = self._thresholds.get(order.attempt_id)
        if known is None:
            raise BadInput("the way to the model was not opened before the VM", "this is a defect of the engine")
        return known


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
