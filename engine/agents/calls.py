"""The calls of a conversation: each held to the step's policy, kept before it is made, made once.

Whoever asks is hostile. An id names one call for good: what was recorded is answered from the record, in this attempt
or a later one, and nothing else is ever made under it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from engine.agents import policy
from engine.agents.child import LoopEnded
from engine.agents.cleaning import cleaned
from engine.agents.inside import wire
from engine.agents.policy import Decision, Ruling
from engine.agents.toolbox import Toolbox
from engine.agents.transcript import Transcript
from engine.domain.agent import (
    AgentRule,
    Asked,
    CallRecord,
    CallState,
    Conversation,
    ConversationJournal,
    Tool,
    ToolCall,
)
from engine.domain.errors import Refused
from engine.domain.gate import Json
from engine.domain.ports import Redactor

UNKNOWN = "its outcome is unknown: the worker died; look before you repeat it"
SAID_NO = "a person was asked, and said no; do without it"
LEAKS = "refused: its arguments hold a secret, or what looks like one; do without it"
REUSED = "refused: the id of this call was used before; make a new call"
LONGEST_CALL = 600_000
""" Characters of its arguments as JSON: more than the longest file that may be written. Refused calls are kept too, for
good, and what comes out of the loop's process is not for the database to hold whatever its length. """
LONGEST_ANSWER = 64 * 1024
""" Characters. The toolbox cuts far earlier; this is what is kept whatever it does. """


def to_restore(calls: tuple[CallRecord, ...]) -> tuple[CallRecord, ...]:
    """The writes whose files another attempt has to put back: those that the model knows were made."""
    return tuple(
        record
        for record in calls
        if record.call.tool is Tool.WRITE and record.state is CallState.DONE and record.answer != UNKNOWN
    )


class Calls:
    """Answers the calls of one attempt, in the order in which they come."""

    def __init__(
        self,
        rule: AgentRule,
        so_far: Conversation,
        journal: ConversationJournal,
        toolbox: Toolbox,
        redactor: Redactor,
        transcript: Transcript,
    ) -> None:
        self._rule, self._so_far, self._journal, self._toolbox = rule, so_far, journal, toolbox
        self._redactor, self._transcript = redactor, transcript
        self._records: Mapping[str, CallRecord] = {record.call.id: record for record in so_far.calls}
        self._count = len(self._records)
        self._answered: set[str] = set()

    def answer(self, word: wire.Call) -> str | Asked:
        """What the model is told, or whom a person must be asked about.

        Raises LoopEnded: its budget of calls is used up, or this is no call that the loop was offered; and Unavailable
        when the VM is gone: the call stays begun then.
        """
        call, clean = self._read(word)
        self._transcript.call(clean)
        record = self._records.get(call.id)
        if call.id in self._answered or (record is not None and not _same(record.call, call, clean)):
            self._one_more()
            self._transcript.refused(REUSED)
            return REUSED
        self._answered.add(call.id)
        if record is not None:
            return self._from_record(call, clean, record)
        self._one_more()
        return self._new(call, clean)

    def _read(self, word: wire.Call) -> tuple[ToolCall, ToolCall]:
        if word.tool not in {spec.name for spec in self._toolbox.specs()} or self._redactor(word.id) != word.id:
            raise LoopEnded("its process broke the protocol: a call of no tool of this step")
        if len(json.dumps(word.args, ensure_ascii=False)) > LONGEST_CALL:
            raise LoopEnded("its process broke the protocol: a call that is longer than any tool takes")
        args = cleaned(word.args, self._redactor)
        assert isinstance(args, dict)  # noqa: S101 - a dict cleaned is a dict
        tool = Tool(word.tool)
        return ToolCall(id=word.id, tool=tool, args=word.args), ToolCall(id=word.id, tool=tool, args=args)

    def _one_more(self) -> None:
        self._count += 1
        if self._count > self._rule.budget.calls:
            raise LoopEnded(f"its budget of {self._rule.budget.calls} calls is used up")

    def _from_record(self, call: ToolCall, clean: ToolCall, record: CallRecord) -> str | Asked:
        if record.state is CallState.ASKED:
            return self._decided(call, clean)
        if record.state is CallState.BEGUN:
            self._journal.end(clean, CallState.DONE, UNKNOWN)
            self._transcript.answer(UNKNOWN)
            return UNKNOWN
        self._transcript.note("  (answered from the record)")
        return record.answer

    def _decided(self, call: ToolCall, clean: ToolCall) -> str | Asked:
        if call.id in self._so_far.denied:
            return self._refuse(clean, SAID_NO)
        ruling = policy.rule_on(call, self._rule.tools)
        if ruling.decision is Decision.REFUSE:
            return self._refuse(clean, ruling.why)
        if ruling.decision is Decision.ALLOW or call.id in self._so_far.allowed:
            return self._make(call, clean, ruling)
        return Asked(call=clean, why=self._redactor(ruling.why))

    def _new(self, call: ToolCall, clean: ToolCall) -> str | Asked:
        if call != clean:
            return self._refuse(clean, LEAKS)
        ruling = policy.rule_on(call, self._rule.tools)
        if ruling.decision is Decision.ALLOW:
            return self._make(call, clean, ruling)
        if ruling.decision is Decision.ASK:
            self._journal.end(clean, CallState.ASKED, "")
            self._transcript.note("  waits for a person's yes")
            return Asked(call=clean, why=self._redactor(ruling.why))
        return self._refuse(clean, ruling.why)

    def _refuse(self, clean: ToolCall, why: str) -> str:
        why = self._redactor(why)
        self._journal.end(clean, CallState.REFUSED, why)
        self._transcript.refused(why)
        return why

    def _make(self, call: ToolCall, clean: ToolCall, ruling: Ruling) -> str:
        self._journal.begin(clean)
        try:
            answer = self._redactor(self._toolbox.make(call, ruling))[:LONGEST_ANSWER]
        except Refused as error:  # only in the VM it was seen where the path leads
            return self._refuse(clean, str(error))
        self._journal.end(clean, CallState.DONE, answer)
        self._transcript.answer(answer)
        return answer


def _same(recorded: ToolCall, call: ToolCall, clean: ToolCall) -> bool:
    """Whether this is the recorded call: as it came, or as it is kept (a mask may be masked once more)."""
    args: tuple[dict[str, Json], ...] = (dict(call.args), dict(clean.args))
    return recorded.tool is call.tool and dict(recorded.args) in args
