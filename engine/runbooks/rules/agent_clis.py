"""Rules on a coding CLI that works an agent's step: L068, L069."""

from __future__ import annotations

from collections.abc import Iterator

from engine.domain import image_names
from engine.domain.runbook import Access, ScriptStep
from engine.runbooks.book import Book, Finding
from engine.runbooks.rule import rule
from engine.runbooks.rules.agents import NOTHING, agents, example

_CODEX = ("fix", "kind: agent", "kind: agent\n    cli: codex\n    image: codex")
_BUILT = ("fix", "kind: agent", "kind: agent\n    cli: codex")
_COUNTED, _UNCOUNTED = "    budget: {requests: 20, tokens: 120k, calls: 40}", "    budget: {requests: 20, tokens: 120k}"
_TOOLS = """\
    tools:
      run: [{argv: [python3, "/step/out/**"]}]
      read: ["/step/**"]
      write: ["/step/out/**"]
"""
_NO_TOOLS = ("fix", _TOOLS + _COUNTED, _UNCOUNTED)


@rule("L068", bad=example(_CODEX, ("fix", _COUNTED, _UNCOUNTED)), good=example(_CODEX, _NO_TOOLS))
def coding_clis_have_a_vm_and_nothing_else(book: Book) -> Iterator[Finding]:
    """A coding CLI does in its VM what it likes, and tells its model all that it sees, from which no secret is taken
    out. So the VM holds none, and leads to no target: no login, no secrets, no target, `access: none`; hosts of
    `network` it may dial without a key. `tools` would promise what nobody holds it to."""
    for at, step, agent in agents(book):
        if agent.cli is not None:
            if agent.tools != NOTHING:
                what = f"{step.id} is worked by {agent.cli}, which nobody holds to tools"
                yield Finding(("steps", at, "tools"), what, "remove them, or remove `cli`")
            for key in _too_much(step):
                what = f"{step.id} is worked by {agent.cli}, whose model sees all that its VM has, and it has {key}"
                yield Finding(("steps", at, key), what, "remove it: what the target says, let an earlier step bring")


def _too_much(step: ScriptStep) -> Iterator[str]:
    if step.target:
        yield "target"
    if step.login:
        yield "login"
    if step.grant.secrets:
        yield "secrets"
    if step.access is not Access.NONE:
        yield "access"


@rule("L069", bad=example(_BUILT, _NO_TOOLS), good=example(_CODEX, _NO_TOOLS))
def coding_clis_come_with_an_image(book: Book) -> Iterator[Finding]:
    """No image that is built here has a coding CLI: the step names one that was imported with it. Its digest, and so
    the CLI's version, is part of what a run is bound to."""
    for at, step, agent in agents(book):
        if agent.cli is not None and image_names.variants_of(step.image) is not None:
            what = f"the image {step.image} of {step.id} has no {agent.cli}"
            yield Finding(("steps", at, "image"), what, "import one: README, A coding CLI in the VM")
