"""A coding CLI that works an agent's step: it runs in the step's VM, and reaches its model by our proxy only.

It may do in its VM whatever it likes: the VM, the egress that the step declares, and the proxy's budget are what hold
it. In the VM is the step's token, which opens one door until the step ends, and never the provider's key.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from engine.agents import codex
from engine.agents.cleaning import cleaned
from engine.agents.door import Door
from engine.agents.prompt import CLAIM, Prompt, bounded
from engine.agents.transcript import Transcript
from engine.domain.agent import AgentEnd, CommandResult, Guest, Streams
from engine.domain.errors import BadInput
from engine.domain.gate import Json
from engine.domain.ports import Redactor
from engine.domain.runbook import ScriptStep

HOST, PORT = "model", 80
""" By what name its VM reaches the proxy. """

FOLDER = "/step/.cli"
RUN = f'export {codex.HOME}="$1" {codex.TOKEN}="$(cat "$1/token")"; exec {codex.COMMAND} < "$1/prompt"'
OUTPUT_LIMIT = 16 << 20
MAX_LINE = 1 << 20
MAX_CLAIM, MAX_TEXT = 64_000, 16_000
NOT_THERE = 127


def must_fit(step: ScriptStep) -> None:
    """Raises BadInput for a step whose VM would hold what its model must not see: nothing is taken out of what a CLI
    tells its model."""
    if step.login is not None or step.grant.secrets:
        raise BadInput(
            f"step {step.id} is a coding CLI's and has a secret", "take its login and secrets out: its model sees all"
        )


def work(
    step: ScriptStep,
    told: Prompt,
    door: Door,
    guest: Guest,
    redactor: Redactor,
    transcript: Transcript,
    left_s: Callable[[], float],
) -> AgentEnd:
    """Run it to its end. Raises BadInput; Unavailable when the VM is gone."""
    if not isinstance(guest, Streams):
        raise BadInput("no coding CLI runs in this kind of VM", "use the hypervisor of libvirt")
    if door.api is not codex.API:
        raise BadInput(f"codex speaks {codex.API}, and this step's model {door.api}", "name another model")
    config = codex.config(model=door.model, url=f"http://{HOST}:{PORT}/v1", instructions=told.instructions)
    for name, text in ((codex.CONFIG, config), ("token", door.token), ("prompt", told.user)):
        guest.write(f"{FOLDER}/{name}", text.encode("utf-8", "replace"))
    report = codex.Report(transcript)
    lines = Lines(report.line)
    result = guest.stream(("/bin/sh", "-c", RUN, "sh", FOLDER), max(1.0, left_s()), OUTPUT_LIMIT, lines.feed)
    lines.close()
    why = _why_none(result, report.error)
    if why:
        return AgentEnd(reason=bounded(redactor(why), MAX_TEXT))
    if step.output is not None:
        return AgentEnd(output=_claim(guest, redactor))
    if not report.last.strip():
        return AgentEnd(reason="it said nothing")
    return AgentEnd(output=bounded(redactor(report.last), MAX_TEXT))


class Lines:
    """Pieces of text into whole lines. One without end is cut, and said to be."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        self._hear = hear
        self._rest = ""
        self._skips = False

    def feed(self, text: str) -> None:
        """More of it."""
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._line(line)
        if len(self._rest) > MAX_LINE:
            if not self._skips:
                self._hear("[a line without end is not shown]")
            self._rest, self._skips = "", True

    def close(self) -> None:
        """What has no end of line yet."""
        self._line(self._rest)
        self._rest = ""

    def _line(self, line: str) -> None:
        if line.strip() and not self._skips:
            self._hear(line)
        self._skips = False


def _why_none(result: CommandResult, error: str) -> str:
    """Why it came to nothing; empty when it ended well."""
    if result.code == 0:
        return ""
    said = error or result.stderr.strip()[-500:]
    if result.code == NOT_THERE:
        return f"the step's image has no codex: {said}"
    return (result.reason or f"codex ended with exit code {result.code}") + (f": {said}" if said else "")


def _claim(guest: Guest, redactor: Redactor) -> Json:
    """What it wrote down as its output, redacted; raises BadInput."""
    try:  # cleaning too: it gives up earlier than the reader, where one thing lies in another in another
        return cleaned(json.loads(guest.read(CLAIM, MAX_CLAIM), parse_constant=_no_number), redactor)
    except (ValueError, RecursionError):
        raise BadInput(f"{CLAIM} is not JSON", "the CLI must write its output there as JSON") from None


def _no_number(name: str) -> Json:
    raise ValueError(name)
