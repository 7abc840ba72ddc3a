"""A coding CLI that works an agent's step, in a runbook: how it is written, what is refused, what people are told."""

from __future__ import annotations

import pytest

from engine.domain.agent import AgentRule, Budget, Tools
from engine.domain.errors import BadInput
from engine.domain.runbook import Runbook, ScriptStep
from engine.runbooks import permissions, picture, skeleton
from engine.runbooks.shelf import shaped
from tests.unit.runbooks.judged import rules, said

FILES = dict(skeleton.AGENT.files)
OF_OURS = """\
    access: none
    tools:
      run: [{argv: [python3, "/step/out/**"]}]
      read: ["/step/**"]
      write: ["/step/out/**"]
    budget: {requests: 20, tokens: 120k, calls: 40}
"""
OF_CODEX = """\
    cli: codex
    image: codex
    access: none
    budget: {requests: 20, tokens: 120k}
"""
assert skeleton.AGENT.text.count(OF_OURS) == 1
TEXT = skeleton.AGENT.text.replace(OF_OURS, OF_CODEX)
SECRET = "    secrets: [{name: api, engine: kv, path: kv/data/example/api, fields: [token]}]\n"


def bent(old: str, new: str) -> str:
    """The runbook, with its step of codex changed."""
    assert OF_CODEX.count(old) == 1, old
    return TEXT.replace(OF_CODEX, OF_CODEX.replace(old, new))


def runbook(text: str = TEXT) -> Runbook:
    """Read."""
    return shaped(text, "test")[1]


def test_a_cli_has_its_model_its_budget_and_nothing_else() -> None:
    [step] = [step for step in runbook().steps if step.id == "fix"]

    assert isinstance(step, ScriptStep)
    assert step.image == "codex"
    assert step.agent == AgentRule(
        model="careful", cli="codex", budget=Budget(requests=20, tokens=120_000, calls=0), tools=Tools()
    )
    assert said(TEXT, FILES) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (bent("120k}", "120k, calls: 40}"), "nobody counts the calls of a coding CLI"),
        (bent("    cli: codex\n", ""), "a budget says how many `calls`"),
        (bent("cli: codex", "cli: emacs"), "cli is 'emacs'"),
    ],
)
def test_what_does_not_fit_the_format_is_told(text: str, why: str) -> None:
    with pytest.raises(BadInput) as refusal:
        runbook(text)

    assert why in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("    access: none\n", '    access: none\n    tools: {read: ["/step/**"]}\n', "L068"),
        ("    access: none\n", "    access: none\n    target: staging\n", "L068"),
        ("    access: none\n", "    access: none\n" + SECRET, "L068"),
        ("    image: codex\n", "", "L069"),
        ("    image: codex\n", "    image: step-ansible\n", "L069"),
        ("requests: 20", "requests: 1", "L067"),
    ],
)
def test_what_is_not_safe_is_refused(old: str, new: str, rule: str) -> None:
    assert rule in rules(said(bent(old, new), FILES))


def test_a_key_to_a_target_is_never_in_its_vm() -> None:
    entering = "    access: read\n    target: staging\n    login: {user: reader, key: api}\n" + SECRET

    found = [one for one in said(bent("    access: none\n", entering), FILES) if "L068" in one]

    assert [one.partition("and it has ")[2].split(" ")[0] for one in found] == ["target", "login", "secrets", "access"]


def test_people_are_told_what_it_may() -> None:
    book = runbook()

    assert "codex of careful told fix.md, makes fix" in picture.graph(book)
    rows = {(str(row.kind), row.shown) for row in permissions.of(book) if row.who == "fix"}
    assert ("run", "any command in its VM, by codex") in rows
    assert ("shown to it", "whatever its VM holds and may dial") in rows
    assert not any(kind == "budget" and shown.startswith("calls") for kind, shown in rows)


def test_a_cli_instead_of_tools_is_wider() -> None:
    change = permissions.compare(permissions.of(runbook(skeleton.AGENT.text)), permissions.of(runbook()))

    assert "any command in its VM, by codex" in {row.what for row in change.wider}
