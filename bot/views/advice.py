"""What a step that does not know the cause leaves to a person: what it looked at, what is likely, what one could try.

A convention of the output of a diagnosing step, whoever made it: `looked_at`, `likely` and `could_try`, each a text or
a list of texts. It is a claim like all the rest, and shown as one. Raw text: the templates escape it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.domain.gate import Json
from engine.domain.incident import AttemptView, EscalationView, RunView

HEADS = {"looked_at": "It looked at", "likely": "It thinks likely", "could_try": "You could try"}
MOST_LINES = 6
MOST_CHARACTERS = 240
""" Of a line; a message is read on a phone, and the page has all of it. """


@dataclass(frozen=True, slots=True)
class Advice:
    """One part of it. `more`: how many lines are left to the page."""

    head: str
    lines: tuple[str, ...]
    more: int = 0


def of(run: RunView, escalation: EscalationView) -> tuple[Advice, ...]:
    """What the step that the run halted at, or that its gate judges, left for a person; nothing where it is silent."""
    attempt = _asked_about(run, escalation)
    output = attempt.output if attempt is not None else None
    return tuple(_parts(output)) if isinstance(output, dict) else ()


def _asked_about(run: RunView, escalation: EscalationView) -> AttemptView | None:
    judged = next((one.of for one in reversed(run.verdicts) if one.leg == escalation.leg), escalation.leg)
    before = [one for one in run.attempts if one.leg == judged and one.started_at <= escalation.raised_at]
    return max(before, key=lambda one: one.started_at, default=None)


def _parts(output: dict[str, Json]) -> Iterator[Advice]:
    for name, head in HEADS.items():
        said = output.get(name)
        lines = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str) and one.strip()]
        if lines:
            shown = tuple(" ".join(one.split())[:MOST_CHARACTERS] for one in lines[:MOST_LINES])
            yield Advice(head, shown, len(lines) - len(shown))
