"""An agent's step from its order to its end. `AgentWork` implements `engine.domain.runners.Agents`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from engine.agents import child, prompt
from engine.agents.calls import Calls, to_restore
from engine.agents.child import LoopEnded
from engine.agents.cleaning import cleaned
from engine.agents.inside import wire
from engine.agents.toolbox import Metrics, Toolbox
from engine.agents.transcript import Transcript
from engine.domain.agent import (
    AgentEnd,
    AgentRule,
    Asked,
    Budget,
    Conversation,
    ConversationJournal,
    Guest,
    Usage,
)
from engine.domain.errors import BadInput
from engine.domain.ports import Reach, Redactor
from engine.domain.runners import Order


class Door(Protocol):
    """What of an open door the loop needs; `refusals`: what the proxy refused, in words."""

    @property
    def socket(self) -> Path: ...
    @property
    def token(self) -> str: ...
    @property
    def api(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def refusals(self) -> Sequence[str]: ...


class Doors(Protocol):
    """The model proxy: opens a door to one model for one step, with a budget that it holds by itself."""

    def door(
        self, *, model: str, budget: Budget, used: Usage, spend: Callable[[Usage], Usage], lives_s: float
    ) -> AbstractContextManager[Door]: ...


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

    def reaches(self, order: Order) -> tuple[Reach, ...]:  # noqa: ARG002 - the port has it
        """See `Agents.reaches`: our loop is on the host, its VM dials nobody for it."""
        return ()

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
            toolbox = Toolbox(rule.tools, guest, redactor, self._metrics)
            if so_far.messages:
                transcript.note("goes on from where an earlier attempt stopped")
                for trouble in toolbox.restore(to_restore(so_far.calls)):
                    transcript.note(f"a file of the earlier attempt is missing: {trouble}")
            calls = Calls(rule, so_far, journal, toolbox, redactor, transcript)
            conversation = _Conversation(calls, journal, redactor, transcript, so_far.usage, _most_words(rule, so_far))
            end = self._talk(rule, so_far, told, toolbox, conversation, ends_at, stopped)
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
        ends_at: float,
        stopped: Callable[[], bool],
    ) -> AgentEnd:
        door_for = self._proxy.door(
            model=rule.model,
            budget=rule.budget,
            used=so_far.usage,
            spend=conversation.spend,
            lives_s=max(1.0, ends_at - time.monotonic()),
        )
        with door_for as door:
            try:
                with child.running(door.socket, ends_at, stopped, self._inside) as loop:
                    loop.tell(_start(rule, so_far, told, toolbox, door))
                    end = conversation.follow(loop)
            except LoopEnded as ended:
                end = AgentEnd(reason=str(ended))
            why = rule.budget.spent(conversation.used) or (door.refusals[-1] if door.refusals else "")
        reason = end.reason if not end.reason or why in end.reason else f"{end.reason}: {why}"
        return AgentEnd(output=end.output, asked=end.asked, reason=conversation.clean(reason))


class _Conversation:
    """What the loop's process says, word by word, until it ends. `limit`: of words, more end it. `used`: up to now."""

    def __init__(
        self,
        calls: Calls,
        journal: ConversationJournal,
        redactor: Redactor,
        transcript: Transcript,
        used: Usage,
        limit: int,
    ) -> None:
        self._calls, self._journal, self.clean, self._transcript = calls, journal, redactor, transcript
        self.used, self._limit = used, limit

    def spend(self, usage: Usage) -> Usage:
        """Add to what was used, in the journal; a thread of the proxy calls it."""
        self.used = self._journal.spend(usage)
        return self.used

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
