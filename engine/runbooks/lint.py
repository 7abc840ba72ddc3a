"""Runs every rule over a runbook. Called by the shelf; a rule's id stands at the end of its message.

L011 (idempotency is declared) needs no
rule: `idempotent` is a required key of the format.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.runbooks.book import Book
from engine.runbooks.positions import Document, Problem
from engine.runbooks.rule import Rule
from engine.runbooks.rules import (
    agent_clis,
    agent_tools,
    agents,
    changes,
    grants,
    measuring,
    order,
    playbooks,
    production,
    reach,
    terraform,
    untrusted,
    words,
)

ROOMS = (
    agent_clis,
    agent_tools,
    agents,
    changes,
    grants,
    measuring,
    order,
    playbooks,
    production,
    reach,
    terraform,
    untrusted,
    words,
)

RULES: Mapping[str, Rule] = {
    found.id: found
    for found in sorted(
        (value for room in ROOMS for value in vars(room).values() if isinstance(value, Rule)), key=lambda rule: rule.id
    )
}


def lint(book: Book, document: Document) -> tuple[Problem, ...]:
    """Every broken rule with its place; the rule's id stands at the end of how to mend it."""
    return tuple(
        document.problem(finding.place, finding.what, f"{finding.mend} [{rule.id}]")
        for rule in RULES.values()
        for finding in rule.check(book)
    )
