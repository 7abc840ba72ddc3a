"""An agent step: what it may do, what it may spend, and who takes part in it.

The loop that talks to the model is a process of its own, without network, database, Vault or Slack (`engine.agents`).
It asks; the worker decides: each call of a tool is held to the step's policy here, on the host, and acts in the step's
VM only. What a model says is hostile until parsed, and certifies nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from engine.domain.gate import Json

# -- the model ---------------------------------------------------------------------------------------------------------


class Api(enum.StrEnum):
    """Which wire format a model speaks."""

    ANTHROPIC = "anthropic"
    """ POST /v1/messages. """

    OPENAI = "openai"
    """ POST /v1/chat/completions, as OpenAI and whatever calls itself compatible. """

    OPENAI_RESPONSES = "openai-responses"
    """ POST /v1/responses. """


# -- what the runbook grants ------------------------------------------------------------------------------------------


class Where(enum.StrEnum):
    """Where a command of an agent runs: in the step's own VM, or from there by ssh on the step's target."""

    VM = "vm"
    TARGET = "target"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRule:
    """A command that the agent may run. `argv`: a word for a word, where

    `*`        stands for any one word that is no option (does not begin with `-`) and no absolute path
    `/srv/**`  for any normalised absolute path within that folder, and the folder itself
    `**`       as the last word, for any number of words as `*` takes them

    and every other word for itself. `ask`: a person says yes to each such call, or it is not made.
    """

    argv: tuple[str, ...]
    on: Where = Where.VM
    ask: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """A log that the agent may read by its name: the command on the target that prints its end."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """All that an agent may do; nothing by default. `reads`, `writes`: patterns of absolute paths in the step's VM,
    each a path or a folder with `/**`; none means the step's keys (/run/secrets, /step/.ssh), which no command in the
    VM has either. `metrics`: names of metrics, `*` at the end for any rest."""

    run: tuple[CommandRule, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    logs: tuple[LogSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an agent used. `tokens`: in and out together. `microdollars`: millionths of a dollar."""

    requests: int = 0
    tokens: int = 0
    microdollars: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            requests=self.requests + other.requests,
            tokens=self.tokens + other.tokens,
            microdollars=self.microdollars + other.microdollars,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that an agent may use, over all attempts that go on with one another. Its time is the step's timeout.

    `microdollars`: None: no limit but those of requests and tokens. `calls`: of tools.
    """

    requests: int
    tokens: int
    calls: int
    microdollars: int | None = None

    def spent(self, usage: Usage) -> str:
        """Which part of it is used up, in words; empty while another request may be made."""
        if usage.requests >= self.requests:
            return f"its budget of {self.requests} requests is used up"
        if usage.tokens >= self.tokens:
            return f"its budget of {self.tokens:,} tokens is used up"
        if self.microdollars is not None and usage.microdollars >= self.microdollars:
            return f"its budget of ${self.microdollars / 1e6:.2f} is used up"
        return ""


CLIS = ("codex",)
""" The coding CLIs that a step may name. """


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRule:
    """What makes a step an agent's. `model`: a name of the file SIGNALBOX_MODELS. Its prompt is the step's script.

    `context`: files of the runbook's folder that become part of its instructions. `cli`: a coding CLI of the image
    that runs in the VM instead of our loop, by its name (`CLIS`); it has what the VM has, and the budget but for
    `calls`, which nobody counts there.
    """

    model: str
    budget: Budget
    tools: Tools = field(default_factory=Tools)
    context: tuple[str, ...] = ()
    cli: str | None = None


# -- one call of a tool -----------------------------------------------------------------------------------------------


class Tool(enum.StrEnum):
    """The tools. Each is there only if the step grants something of it."""

    RUN = "run"
    READ = "read"
    WRITE = "write"
    METRICS = "metrics"
    LOGS = "logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """What a model asks for. `id` is the provider's, unique within the conversation or the call is refused.

    `args`, all text but where said: run {argv: [words], on}; read {path}; write {path, content}; metrics {query};
    logs {name, contains}.
    """

    id: str
    tool: Tool
    args: Mapping[str, Json]


class CallState(enum.StrEnum):
    """Where a call is."""

    ASKED = "asked"
    """ A person must say yes to it; the attempt ended, and waits. """

    BEGUN = "begun"
    """ It may have had an effect; only a worker that died leaves one so. """

    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A call as it is kept: `answer` is what the model was told, redacted and cut. `order`: from 1, as they came."""

    call: ToolCall
    state: CallState
    order: int
    answer: str = ""


# -- what is kept of a conversation, so that another attempt goes on with it -------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """How far an agent came. `messages`: pydantic-ai's JSON, redacted; empty: it begins. `allowed`: ids of calls to
    which a person said yes; `denied`: no. `worked_s`: seconds of attempts that ended, waits for people not among them.
    """

    messages: bytes = b""
    usage: Usage = field(default_factory=Usage)
    calls: tuple[CallRecord, ...] = ()
    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    worked_s: float = 0.0


class ConversationJournal(Protocol):
    """Where an agent's conversation is kept, each act in its own committed transaction before what it announces."""

    def so_far(self) -> Conversation:
        """What earlier attempts that this one goes on with left."""

    def said(self, messages: bytes) -> None:
        """The whole conversation as it is now."""

    def spend(self, usage: Usage) -> Usage:
        """Add to what was used, and return the sum. A request is added before it is made."""

    def begin(self, call: ToolCall) -> None:
        """The call is about to be made."""

    def end(self, call: ToolCall, state: CallState, answer: str) -> None:
        """What came of it: DONE, REFUSED or ASKED."""


# -- the step's VM ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command in the VM gave: `code` of its exit, None when it did not exit by itself; `reason` says why then.

    Both texts are redacted and cut at their limit.
    """

    code: int | None
    stdout: str
    stderr: str
    truncated: bool = False
    reason: str = ""


class Guest(Protocol):
    """A VM in which several commands run, one after the other. Raises `Unavailable` once the VM is gone."""

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult: ...

    def read(self, path: str, limit: int) -> bytes:
        """A regular file's bytes; raises BadInput: none there, not a regular file, longer than `limit`."""

    def write(self, path: str, content: bytes) -> None:
        """Put a file, its folders with it; what it replaces is replaced. Raises BadInput with the guest's reason."""


@runtime_checkable
class Streams(Protocol):
    """What a guest also is where a coding CLI may run: one long command whose stdout is heard as it comes."""

    def stream(
        self, argv: tuple[str, ...], timeout_s: float, output_limit: int, on_output: Callable[[str], None]
    ) -> CommandResult:
        """As `Guest.run`; `on_output` hears stdout in pieces, redacted."""


# -- a step of it -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call that a person must say yes to. `why`: one line for them."""

    call: ToolCall
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnd:
    """How an agent's work ended: with an `output` (a claim, not yet held to the step's rule), with a call that a
    person is `asked` about, or neither, and then `reason` says why."""

    output: Json = None
    asked: Asked | None = None
    reason: str = ""
