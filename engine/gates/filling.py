"""Fills `{{ inputs.NAME }}` and `{{ target.host }}` into what a check asks. Called by the kinds that ask something.

Inputs come from alerts: untrusted. Each kind passes the escape for the place where the value lands.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.domain import template
from engine.domain.gate import Facts


def fill(text: str, target: str, facts: Facts, escape: Callable[[str], str] = str) -> str:
    """The text with its placeholders replaced by escaped values; raises BadInput for a name that is not known."""
    host = {"host": escape(facts.hosts[target])} if target in facts.hosts else {}
    inputs = {name: escape(value) for name, value in facts.inputs.items()}
    return template.fill(text, {"inputs": inputs, "target": host})
