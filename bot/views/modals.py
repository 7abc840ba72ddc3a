"""The two modals: why an order is rejected, and the harness note.

`metadata` comes back with the submission as `private_metadata`; it holds ids only. `banner` says what went wrong with
an earlier try; the typed text is put back, because a modal that is replaced may forget it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.views.limits import Json
from bot.views.render import modal
from bot.views.story import NoteStep

NOTE_FIELDS = (
    ("what", "What happened?", "Where did it drift, skip or guess? Say what you saw.", True),
    ("change", "What should change?", "The gate, the runbook, a context file: the strongest form that fits.", True),
    ("rule", "Rule for agents.md", "One line, such as: measure free space before and after a clean-up.", False),
)
MAX_STEPS = 80
""" A modal takes 100 blocks. """


def reject(metadata: str, *, reason: str = "", banner: str = "") -> Json:
    """Asks why an order is rejected."""
    return modal("reject.json.j2", metadata=metadata, reason=reason, banner=banner)


def note(
    number: int,
    title: str,
    steps: Sequence[NoteStep],
    metadata: str,
    *,
    marks: Mapping[str, str] | None = None,
    texts: Mapping[str, str] | None = None,
    banner: str = "",
) -> Json:
    """The harness note, filled with what was typed before. `steps`: see `story.note_steps`."""
    return modal(
        "note.json.j2",
        number=number,
        title=title,
        metadata=metadata,
        steps=list(steps)[:MAX_STEPS],
        fields=NOTE_FIELDS,
        marks=marks or {},
        texts=texts or {},
        banner=banner,
    )
