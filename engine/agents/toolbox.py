"""The tools of one agent: what its model is told of them, and a call that was allowed, made in the step's VM.

An answer is for the model, and for the transcript: redacted, then cut to some 4 kB, then with what cannot be seen
escaped. Used by the loop's host side, one call after the other; the policy has ruled before (`engine.agents.policy`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from engine.agents import paths, policy
from engine.agents.keyless import keyless
from engine.agents.policy import Decision, Ruling
from engine.domain.agent import CallRecord, CallState, CommandResult, Guest, Tool, ToolCall, Tools, Where
from engine.domain.errors import BadInput, Refused, SignalboxError
from engine.domain.gate import Json
from engine.domain.ports import Redactor

Metrics = Callable[[str, tuple[str, ...]], Json]
""" Answers a query that reads no metric but these names (`*` at the end: any rest). Raises SignalboxError. """

RUN_TIMEOUT_S = 120.0
PATH_TIMEOUT_S = 60.0
MAX_OUTPUT = 256 * 1024  # of each stream, before it is cut for the model
MAX_FILE = 1 << 20
HEAD, TAIL = 2400, 1600  # characters
OF_STDERR = 600, 400
ON_TARGET = ("ssh", "target", "--")
EXIT_OF_SSH_ITSELF = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as a model is told of it. `schema`: JSON Schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Json]


class Toolbox:
    """Only what `tools` grants is there. `metrics`: None where no Prometheus is configured."""

    def __init__(self, tools: Tools, guest: Guest, redactor: Redactor, metrics: Metrics | None = None) -> None:
        self._tools, self._guest, self._redactor, self._metrics = tools, guest, redactor, metrics

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools that this step has."""
        return specs(self._tools)

    def make(self, call: ToolCall, ruling: Ruling) -> str:
        """Make a call as it was ruled on; what the model is told. Of a call that a person is asked about: after a yes.

        Raises Refused for a path that a link in the VM leads to where the step may not go, and Unavailable only when
        the VM is gone. Whatever else goes wrong is the answer.
        """
        if ruling.decision is Decision.REFUSE:
            return self._shown(f"refused: {ruling.why}")
        try:
            return self._shown(self._made(call, ruling))
        except BadInput as error:
            return self._shown(f"not done: {error}")

    def restore(self, calls: Iterable[CallRecord]) -> tuple[str, ...]:
        """Put back the files of writes that were done, each as it was last; in words, what could not be put back.

        The records are held to the policy again. Raises Unavailable when the VM is gone.
        """
        done = (one.call for one in sorted(calls, key=lambda one: one.order) if one.state is CallState.DONE)
        last = {str(call.args.get("path")): call for call in done if call.tool is Tool.WRITE}
        return tuple(trouble for call in last.values() if (trouble := self._restored(call)))

    def _restored(self, call: ToolCall) -> str:
        ruling = policy.rule_on(call, self._tools)
        if ruling.decision is not Decision.ALLOW:
            return self._shown(ruling.why)
        try:
            self._write(call, ruling)
        except (BadInput, Refused) as error:
            return self._shown(str(error))
        return ""

    def _made(self, call: ToolCall, ruling: Ruling) -> str:
        makers: Mapping[Tool, Callable[[ToolCall, Ruling], str]] = {
            Tool.RUN: self._run,
            Tool.READ: self._read,
            Tool.WRITE: self._write,
            Tool.METRICS: self._ask,
            Tool.LOGS: self._log,
        }
        return makers[call.tool](call, ruling)

    # -- one tool each

    def _run(self, _: ToolCall, ruling: Ruling) -> str:
        result = self._command(ruling)
        parts = [_ending(result, ruling.on)]
        if result.stdout:
            parts.append(f"stdout:\n{self._excerpt(result.stdout)}")
        if result.stderr:
            parts.append(f"stderr:\n{self._excerpt(result.stderr, *OF_STDERR)}")
        if result.truncated:
            parts.append(f"(it printed more than {MAX_OUTPUT} bytes: the rest was not kept)")
        return "\n".join(parts)

    def _read(self, _: ToolCall, ruling: Ruling) -> str:
        content = self._guest.read(self._real(ruling.path, "read", self._tools.reads), MAX_FILE)
        return f"{ruling.path}, {len(content)} bytes:\n{self._excerpt(content.decode('utf-8', 'replace'))}"

    def _write(self, call: ToolCall, ruling: Ruling) -> str:
        content = str(call.args["content"]).encode()
        self._guest.write(self._real(ruling.path, "write", self._tools.writes), content)
        return f"wrote {len(content)} bytes to {ruling.path}"

    def _ask(self, call: ToolCall, _: Ruling) -> str:
        if self._metrics is None:
            raise BadInput("no Prometheus is configured here", "go on without metrics")
        try:
            answer = self._metrics(str(call.args["query"]), self._tools.metrics)
        except SignalboxError as error:  # also Unavailable: that is Prometheus, not the VM
            raise BadInput(str(error), error.remedy) from None
        return self._excerpt(json.dumps(answer, ensure_ascii=False))

    def _log(self, call: ToolCall, ruling: Ruling) -> str:
        """Filtered here, by plain text: the target runs what the runbook says, to the letter."""
        result = self._command(ruling)
        if result.code != 0:
            why = self._excerpt(result.stderr, *OF_STDERR)
            return f"the log could not be read: {_ending(result, Where.TARGET)}\n{why}"
        contains = str(call.args.get("contains") or "")
        lines = [line for line in result.stdout.splitlines() if contains in line]
        which = f" that contain {contains!r}" if contains else ""
        more = f"; what came after {MAX_OUTPUT} bytes was not kept" if result.truncated else ""
        text = self._excerpt("\n".join(lines), 0, HEAD + TAIL)
        return f"{len(lines)} lines{which}, the newest last{more}:\n{text}"

    # -- what they share

    def _command(self, ruling: Ruling) -> CommandResult:
        """In the VM it has no key; on the target, where sshd hands one string to a shell, no word is unquoted."""
        on_target = ruling.on is Where.TARGET
        argv = (*ON_TARGET, shlex.join(ruling.argv)) if on_target else keyless(ruling.argv)
        return self._guest.run(argv, RUN_TIMEOUT_S, MAX_OUTPUT)

    def _real(self, path: str, verb: str, patterns: tuple[str, ...]) -> str:
        """Where the path leads in the VM, links followed, which must be allowed too. Nothing runs there meanwhile."""
        result = self._guest.run(("/usr/bin/realpath", "-m", "--", path), PATH_TIMEOUT_S, 2 * paths.MAX_PATH)
        real = result.stdout.removesuffix("\n")
        if result.code != 0 or result.truncated or not real:
            raise BadInput(f"nobody can say where {path} leads: {result.reason or result.stderr}", "name another")
        if paths.trouble(real) or not any(paths.within(real, pattern) for pattern in patterns):
            why = self._shown(f"{path} leads by a symbolic link to {real}, which you may not {verb}")
            raise Refused(why, "name a path that leads nowhere")
        return real

    def _excerpt(self, text: str, head: int = HEAD, tail: int = TAIL) -> str:
        """Redacted before it is cut, so that no half of a secret is left; and how much was between."""
        whole = self._shown(text)
        if len(whole) <= head + tail:
            return whole
        return f"{whole[:head]}\n[... {len(whole) - head - tail} characters cut ...]\n{whole[len(whole) - tail :]}"

    def _shown(self, text: str) -> str:
        return _visible(self._redactor(text))


# -- what the model is told of the tools ------------------------------------------------------------------------------


def specs(tools: Tools) -> tuple[ToolSpec, ...]:
    """The tools of which `tools` grants something, in a fixed order."""
    made = (_run_spec(tools), *_file_specs(tools), _metrics_spec(tools), _logs_spec(tools))
    return tuple(spec for spec in made if spec is not None)


def _run_spec(tools: Tools) -> ToolSpec | None:
    if not tools.run:
        return None
    wheres = sorted({rule.on.value for rule in tools.run})
    lines = [
        f"- on {rule.on.value}: {policy.said(rule)}{'   (a person is asked first)' if rule.ask else ''}"
        for rule in tools.run
    ]
    text = f"""\
Run one program and wait for it, at most {RUN_TIMEOUT_S:.0f} s. No shell reads the words: no pipes, no redirection, \
no globs. `on`: "vm" is this step's own throw-away VM, without its keys; "target" is the system at hand. What it \
leaves running is ended.
Allowed, where * is one word that is no option and no absolute path, a last ** any number of such words, and /x/** any \
path in /x:
"""
    required: list[Json] = ["argv", "on"]
    argv: Json = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": policy.MAX_WORDS}
    where: Json = {"type": "string", "enum": list[Json](wheres)}
    return _spec(Tool.RUN, text + "\n".join(lines), {"argv": argv, "on": where}, required)


def _file_specs(tools: Tools) -> Iterable[ToolSpec | None]:
    path = _text(policy.MAX_WORD)
    reads, writes = ("\n".join(f"- {pattern}" for pattern in patterns) for patterns in (tools.reads, tools.writes))
    if tools.reads:
        text = f"Read a file of the step's VM, by its absolute path; a long one is cut in its middle. Allowed:\n{reads}"
        yield _spec(Tool.READ, text, {"path": path}, ["path"])
    if tools.writes:
        text = f"Write a file of the step's VM, whole, by its absolute path; folders are made. Allowed:\n{writes}"
        yield _spec(Tool.WRITE, text, {"path": path, "content": _text(policy.MAX_CONTENT)}, ["path", "content"])


def _metrics_spec(tools: Tools) -> ToolSpec | None:
    if not tools.metrics:
        return None
    names = "\n".join(f"- {name}" for name in tools.metrics)
    text = f"Ask Prometheus an instant query in PromQL. Every selector names its metric. Allowed metrics:\n{names}"
    return _spec(Tool.METRICS, text, {"query": _text(policy.MAX_QUERY)}, ["query"])


def _logs_spec(tools: Tools) -> ToolSpec | None:
    if not tools.logs:
        return None
    lines = "\n".join(f"- {source.name}: {shlex.join(source.argv)}" for source in tools.logs)
    text = (
        f"Read the newest lines of a log of the target. `contains`: only lines that hold this very text. Logs:\n{lines}"
    )
    name: Json = {"type": "string", "enum": list[Json](source.name for source in tools.logs)}
    return _spec(Tool.LOGS, text, {"name": name, "contains": _text(policy.MAX_CONTAINS)}, ["name"])


def _text(most: int) -> Json:
    return {"type": "string", "maxLength": most}


def _spec(tool: Tool, description: str, properties: dict[str, Json], required: list[Json]) -> ToolSpec:
    schema: dict[str, Json] = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return ToolSpec(name=tool.value, description=description, schema=schema)


# -- how an answer is shown -------------------------------------------------------------------------------------------


def _ending(result: CommandResult, on: Where) -> str:
    if result.code is None:
        return f"it did not exit by itself: {result.reason}"
    notes = [result.reason] if result.reason else []
    if on is Where.TARGET and result.code == EXIT_OF_SSH_ITSELF:
        notes.append("so exits ssh itself when it cannot reach the target")
    return f"exit code {result.code}{''.join(f' ({note})' for note in notes)}"


def _visible(text: str) -> str:
    """What cannot be seen, escaped; lines and tabs stay."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode("ascii") for one in text
    )
