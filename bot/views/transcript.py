"""What an agent did, out of the transcript that its attempt printed: its calls, what of them was refused, its claim.

`engine.agents.transcript` writes it: `> ` begins a call, `! refused: ` says why one was not made, `agent: ` its words.
Whatever prints such lines is shown so; it is a claim like any other. Raw text: the templates escape it.
"""

from __future__ import annotations

from engine.domain.gate import Json
from engine.domain.incident import AttemptView

CALL, REFUSED, WORDS = "> ", "! refused: ", "agent: "
MOST, LAST = 14, 8
MOST_CHARACTERS = 160
CLAIMED = 8
""" Fields of its claim that a message shows; the page has all of it. """


def moves(attempt: AttemptView) -> tuple[str, ...]:
    """Its calls and refusals, a line each, the middle left out of many; nothing where no agent worked."""
    lines = attempt.stdout.splitlines()
    if not any(line.startswith(WORDS) for line in lines):
        return ()
    found = [line[:MOST_CHARACTERS] for line in lines if line.startswith((CALL, REFUSED))]
    if len(found) <= MOST:
        return tuple(found)
    first = MOST - LAST
    return (*found[:first], f"… {len(found) - MOST} more", *found[-LAST:])


def claim(output: Json) -> tuple[tuple[str, str], ...]:
    """The fields of what it claims, each on one line; nothing where it is no object."""
    if not isinstance(output, dict):
        return ()
    return tuple((name, _said(value)[:MOST_CHARACTERS]) for name, value in list(output.items())[:CLAIMED])


def _said(value: Json) -> str:
    if isinstance(value, list):
        return "; ".join(map(_said, value))
    return " ".join(str(value).split())
