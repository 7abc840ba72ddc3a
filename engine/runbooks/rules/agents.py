"""Rules on what an agent's step is for and what becomes of its word: L007, L060, L061, L062, L067.

Their examples are edits of a runbook whose diagnosis and fix are an agent's. Its tools have `agent_tools`.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator

from engine.domain import template
from engine.domain.agent import AgentRule, Tools
from engine.domain.journey import Leg
from engine.domain.runbook import Access, ScriptStep
from engine.runbooks import paths, skeleton
from engine.runbooks.book import Book, Finding
from engine.runbooks.positions import Place
from engine.runbooks.rule import Edit, Example, rule

MAX_PROMPT_BYTES = 16_000
BYTES_A_TOKEN = 4
UNKNOWN = "unknown"
NOTHING = Tools()
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs"})
_MADE = "\n    uses: made"
_MAKES = (
    "  - {id: made, kind: script, script: apply.sh, access: none, produces: {name: made}, timeout: 1m,"
    " idempotent: true}\n  - id: diagnose"
)
_ACTION = "    produces: {name: fix}\n    output: {required: [action], enums: {action: [restart, unknown]}}"
_SOUND = """\
  - id: sound
    kind: gate
    of: fix
    checks:
      - {id: action, type: expr, of: fix, unless: out.action == "unknown", expect: out.action == "restart"}
      - {id: well, type: http, target: staging, path: /healthz, expect: status == 200}
  - id: staging
"""


def example(*edits: tuple[str, str, str], files: dict[str, bytes | None] | None = None) -> Example:
    """An edit of the runbook with agents."""
    return Example(tuple(Edit(*one) for one in edits), files or {}, skeleton.AGENT)


def agents(book: Book) -> Iterator[tuple[int, ScriptStep, AgentRule]]:
    """Every agent's step, with its place in the line."""
    for at, step in book.scripts():
        if step.agent is not None:
            yield at, step, step.agent


@rule(
    "L007",
    bad=example(("diagnose", "  - id: diagnose", _MAKES), ("diagnose", "kind: agent", f"kind: agent{_MADE}")),
    good=example(("diagnose", "  - id: diagnose", _MAKES), ("fix", "kind: agent", f"kind: agent{_MADE}")),
)
def agents_change_nothing(book: Book) -> Iterator[Finding]:
    """An agent changes no target. It looks, or writes an artefact which a later step applies under its digest: there is
    no `access: write` for it. To a protected target it brings nothing along: no `uses` there."""
    for at, step, _ in agents(book):
        if step.access is Access.WRITE:
            yield Finding(("steps", at, "access"), f"the agent of {step.id} may write", "write read or none")
        if step.uses and book.protected(step):
            what = f"the agent of {step.id} brings the artefact of {step.uses} to {step.target}, which is protected"
            yield Finding(("steps", at, "uses"), what, "remove it, or let it look at the artefact with `access: none`")


@rule(
    "L060",
    bad=example(("diagnose", "[services.md]", "[hosts.md]")),
    good=example(("diagnose", "[services.md]", "[hosts.md]"), files={"hosts.md": b"web runs on two hosts.\n"}),
)
def prompts_can_be_read(book: Book) -> Iterator[Finding]:
    """What an agent is told to do lies in the runbook's folder, on the digest: its prompt and each file of its
    context, plain text that a reviewer can see, of 16,000 bytes at most. Nothing is filled in there. What an alert says
    comes to the agent as data and never as its instructions."""
    for at, step, agent in agents(book):
        told = [("prompt", step.script.file), *(("context", file) for file in agent.context)]
        for number, (key, file) in enumerate(told):
            place: Place = ("steps", at, key) if key == "prompt" else ("steps", at, key, number - 1)
            if file in {other for _, other in told[:number]}:
                yield Finding(place, f"{step.id} is told {file} twice", "remove one")
            elif file in book.files:
                fault = _prompt_fault(book.files[file])
                if fault:
                    yield Finding(place, f"{file} {fault[0]}", fault[1])
            elif key == "context":  # of the prompt L022 says so
                yield Finding(place, f"{file} is not in the folder {book.runbook.name}/", "add the file")


def _prompt_fault(data: bytes) -> tuple[str, str] | None:
    """What is wrong with a prompt, and the remedy."""
    if len(data) > MAX_PROMPT_BYTES:
        return f"has {len(data)} bytes, more than {MAX_PROMPT_BYTES}", "say less, or say it in a file for its `read`"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start}", "save it as UTF-8"
    if not text.strip():
        return "says nothing", "say what the agent shall find out or write"
    for number, line in enumerate(text.split("\n"), 1):
        unseen = next(
            (char for char in line.rstrip("\r") if char != "\t" and unicodedata.category(char) in _UNSEEN), ""
        )
        if unseen:
            return f"has a character that nobody sees (U+{ord(unseen):04X}) in line {number}", "remove it"
    filled = sorted(f"{space}.{name}" for space, name in template.names(text) if space != "inputs")  # of these: L036
    if filled:
        return f"has {{{{ {filled[0]} }}}}, which is not filled in there", "name it, or say `your target`"
    return None


@rule(
    "L061",
    bad=example(("fix", "    produces: {name: fix}", _ACTION)),
    good=example(("fix", "    produces: {name: fix}", _ACTION), ("staging", "  - id: staging\n", _SOUND)),
)
def agents_are_judged(book: Book) -> Iterator[Finding]:
    """What an agent says is a claim and certifies nothing: on every path, before anything is changed after it, a gate
    `of` it holds the claim to something measured. What it makes goes to steps that change a target between gates of
    their own; any other step that uses it comes after a gate `of` the agent."""
    unjudged = {leg.step.id for path in paths.every(book.journey()) for leg in _believed(path)}
    for at, step, _ in agents(book):
        if step.id in unjudged:
            what = f"something is changed after {step.id} said what it believes, and no gate judges that"
            yield Finding(("steps", at, "output"), what, f"add a gate with `of: {step.id}` before the next change")
        for place, user in book.scripts():
            if user.uses == step.id and user.access is not Access.WRITE and not _gated(book, step.id, at, place):
                what = f"{user.id} uses what the agent of {step.id} made, which no gate judged"
                yield Finding(("steps", place, "uses"), what, f"add a gate with `of: {step.id}` before it")


def _believed(path: paths.Path) -> Iterator[Leg]:
    """Legs of agents with an output after which something is changed before a gate of theirs."""
    for at, leg in enumerate(path):
        says = isinstance(leg.step, ScriptStep) and leg.step.agent is not None and leg.step.output is not None
        if says and any(map(paths.changes, path[at + 1 :])) and not paths.judged(path, at):
            yield leg


def _gated(book: Book, step_id: str, after: int, before: int) -> bool:
    return any(gate.of == step_id and after < at < before for at, gate in book.gates())


@rule(
    "L062",
    bad=example(("diagnose", "cause: [stuck, unknown]", "cause: [stuck, slow]")),
    good=example(("diagnose", "cause: [stuck, unknown]", "cause: [stuck, slow, unknown]")),
)
def agents_may_not_know(book: Book) -> Iterator[Finding]:
    """An agent that must choose guesses. Each field of its output with a list of values has `unknown` among them: that
    nobody knows is a normal outcome, and halts the run at a gate."""
    for at, step, _ in agents(book):
        for name, values in (step.output.enums if step.output else {}).items():
            if UNKNOWN not in values:
                place: Place = ("steps", at, "output", "enums", name)
                yield Finding(place, f"{step.id} must choose a {name} also when it does not know", f"add {UNKNOWN}")


@rule(
    "L067",
    bad=example(("fix", "requests: 20, tokens: 120k", "requests: 1, tokens: 120k")),
    good=example(("fix", "requests: 20, tokens: 120k", "requests: 2, tokens: 120k")),
)
def budgets_can_be_met(book: Book) -> Iterator[Finding]:
    """A part of a budget that another one hides would never be met: an agent with tools needs a second request to hear
    what its first call gave; and each request says its instructions anew, at some four bytes a token."""
    for at, step, agent in agents(book):
        budget = agent.budget
        place: Place = ("steps", at, "budget")
        if budget.requests < 2 and (agent.tools != NOTHING or agent.cli is not None):
            yield Finding((*place, "requests"), f"{step.id} has tools and one request", "allow 2 at least")
        told = sum(len(book.files.get(file, b"")) for file in itertools.chain([step.script.file], agent.context))
        least = budget.requests * told // BYTES_A_TOKEN
        if budget.tokens < least:
            what = f"{budget.requests} requests of {step.id} take {least} tokens for its instructions alone"
            yield Finding((*place, "tokens"), what, "raise tokens, lower requests, or say less")
