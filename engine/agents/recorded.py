"""A step's VM, metrics and journal for an evaluation: what was recorded is all that there is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.agents.keyless import plain
from engine.agents.situations import Situation
from engine.agents.toolbox import ON_TARGET
from engine.domain.agent import CallState, CommandResult, Conversation, LogSource, ToolCall, Usage, Where
from engine.domain.errors import BadInput
from engine.domain.gate import Json

NOT_RECORDED = "no such situation recorded"
REALPATH = "/usr/bin/realpath"
OUT = "/step/out/"


@dataclass
class Recorded:
    """The situation as the tools find it. `unrecorded`: what was asked for and is not on it, in words.

    `written`: the files that the agent wrote.
    """

    situation: Situation
    logs: tuple[LogSource, ...]
    unrecorded: list[str] = field(default_factory=list)
    written: dict[str, bytes] = field(default_factory=dict)

    @property
    def out(self) -> Mapping[str, bytes]:
        """What it would leave behind, by path within /step/out."""
        return {path.removeprefix(OUT): data for path, data in self.written.items() if path.startswith(OUT)}

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:  # noqa: ARG002 - the port
        """See `Guest.run`. No file is a link."""
        argv = plain(argv)
        if argv[0] == REALPATH:
            return CommandResult(code=0, stdout=f"{argv[-1]}\n", stderr="")
        on, asked = Where.VM, argv
        if argv[: len(ON_TARGET)] == ON_TARGET:
            on, asked = Where.TARGET, tuple(shlex.split(argv[-1]))
        answer = self._answers().get((on, asked))
        if answer is None:
            self.unrecorded.append(f"{on}: {shlex.join(asked)}")
            return CommandResult(code=None, stdout="", stderr="", reason=NOT_RECORDED)
        return replace(answer, stdout=answer.stdout[:output_limit], truncated=len(answer.stdout) > output_limit)

    def read(self, path: str, limit: int) -> bytes:
        """See `Guest.read`."""
        data = self.written.get(path, self.situation.files.get(path))
        if data is None:
            self.unrecorded.append(f"read {path}")
            raise BadInput(NOT_RECORDED)
        if len(data) > limit:
            raise BadInput(f"{path} is longer than {limit} bytes")
        return data

    def write(self, path: str, content: bytes) -> None:
        """See `Guest.write`."""
        self.written[path] = content

    def metrics(self, query: str, allowed: tuple[str, ...]) -> Json:  # noqa: ARG002 - what is recorded was allowed
        """See `toolbox.Metrics`."""
        if query not in self.situation.metrics:
            self.unrecorded.append(f"metrics {query}")
            raise BadInput(NOT_RECORDED)
        return self.situation.metrics[query]

    def _answers(self) -> Mapping[tuple[Where, tuple[str, ...]], CommandResult]:
        answers = {
            (one.on, one.argv): CommandResult(code=one.code, stdout=one.stdout, stderr=one.stderr)
            for one in self.situation.commands
        }
        for source in self.logs:
            if source.name in self.situation.logs:
                text = self.situation.logs[source.name]
                answers[Where.TARGET, source.argv] = CommandResult(code=0, stdout=text, stderr="")
        return answers


@dataclass
class Kept:
    """A journal of one evaluation: it begins with nothing, and what it used is read at the end."""

    usage: Usage = field(default_factory=Usage)
    refused: int = 0

    def so_far(self) -> Conversation:
        """Nothing."""
        return Conversation()

    def said(self, messages: bytes) -> None:
        """Not kept: the transcript has it."""

    def spend(self, usage: Usage) -> Usage:
        """The sum."""
        self.usage = self.usage + usage
        return self.usage

    def begin(self, call: ToolCall) -> None:
        """Not kept: nothing here outlives its worker."""

    def end(self, call: ToolCall, state: CallState, answer: str) -> None:  # noqa: ARG002 - the port has it
        """Refusals are counted."""
        self.refused += state is CallState.REFUSED
