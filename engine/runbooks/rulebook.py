"""The rules as a page for people: `signalbox runbook lint --rules`, kept as docs/lint.md."""

from __future__ import annotations

import difflib

from engine.domain.errors import BadInput
from engine.runbooks.lint import RULES
from engine.runbooks.rule import Rule

HEAD = """\
# What lint demands of a runbook

Written by `signalbox runbook lint --rules`; a test holds it in step. Each rule is proved on every path that a run can
take: the line of steps, a retry after each change, and each rollback. The examples are edits of the runbook that
`signalbox runbook new` writes (those on Terraform of one with plans and applies, those on agents of one in which
agents diagnose and write the fix), and a test runs each: what is refused is refused by this rule alone.

"""


def page() -> str:
    """All rules, as Markdown."""
    contents = "\n".join(f"- [{rule.id}](#{_anchor(rule)}) {rule.title}" for rule in RULES.values())
    return "\n".join([HEAD + contents, *("\n" + _section(rule) for rule in RULES.values())]) + "\n"


def explain(rule_id: str) -> str:
    """One rule; raises BadInput for an id that is none."""
    rule = RULES.get(rule_id.upper())
    if rule is None:
        near = difflib.get_close_matches(rule_id.upper(), RULES, n=1) or [next(iter(RULES))]
        raise BadInput(
            f"there is no rule {rule_id[:20]}", f"for example {near[0]}; all: signalbox runbook lint --rules"
        )
    return _section(rule) + "\n"


def _section(rule: Rule) -> str:
    bad, good = (f"```diff\n{example.shown()}\n```" for example in (rule.bad, rule.good))
    return f"## {rule.id} {rule.title}\n{rule.text}\n\nRefused:\n{bad}\nClean:\n{good}"


def _anchor(rule: Rule) -> str:
    return f"{rule.id} {rule.title}".lower().replace(" ", "-")
