"""Runs every rule over a runbook. Called by the shelf; a rule's id stands at the end of its message.

L007 (an agent that writes to a protected target) will come with agent steps. L011 (idempotency is declared) needs no
rule: `idempotent` is a required key of the format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from engine.runbooks.book import Book, Finding
from engine.runbooks.positions import Document, Problem
from engine.runbooks.rules import changes, grants, order, words

Rule = Callable[[Book], Iterable[Finding]]

RULES: Mapping[str, Rule] = {
    "L000": order.names_are_unique,
    "L001": changes.gate_after_every_change,
    "L002": changes.tested_before_protected,
    "L003": changes.gates_are_independent,
    "L004": changes.ways_back,
    "L005": grants.secrets_are_not_shared,
    "L006": grants.networks_are_narrow,
    "L008": words.times_fit_the_deadline,
    "L009": order.targets_are_known,
    "L010": words.inputs_are_bounded,
    "L012": order.begins_and_ends,
    "L013": order.references_lead_back,
    "L014": words.placeholders_are_known,
    "L015": grants.logins_are_complete,
    "L016": grants.verifiers_are_separate,
    "L017": grants.steps_stay_at_their_target,
    "L018": words.conditions_compile,
    "L019": changes.protected_changes_are_approved,
    "L020": changes.gate_before_every_change,
    "L021": changes.queries_name_their_target,
    "L022": order.scripts_exist,
    "L023": order.targets_are_different_hosts,
    "L024": changes.gates_outlast_the_question,
    "L025": order.images_are_known,
    "L026": grants.limits_can_be_met,
}


def lint(book: Book, document: Document) -> tuple[Problem, ...]:
    """Every broken rule with its line; the rule's id stands at the end of how to mend it."""
    return tuple(
        Problem(document.line(finding.place), finding.what, f"{finding.mend} [{rule_id}]")
        for rule_id, rule in RULES.items()
        for finding in rule(book)
    )
