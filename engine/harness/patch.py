"""From a harness note to a patch file: a rule in agents.md and the recorded evidence as a regression fixture.

`engine.wiring` hands `make_patch` to the front door, which keeps the text with the note. A person applies it with
`git apply`, on a branch, after reading it: nothing here touches a repository.
Format: https://git-scm.com/docs/diff-format#generate_patch_text_with_p
"""

from __future__ import annotations

from datetime import timedelta

from engine.domain.errors import BadInput, Conflict
from engine.domain.harness import NoteDraft
from engine.domain.incident import IncidentView
from engine.domain.journey import Journey
from engine.harness import fixture, rule

REVIEW_AFTER = timedelta(days=90)
MAX_AGENTS = 1 << 20
CONTEXT = 3


def next_number(agents_md: str, at_least: int) -> int:
    """The number for a new note: `at_least` (the row's own), or more when agents.md has come further than that."""
    return max(at_least, 1 + max(rule.numbers(_split(agents_md)), default=0))


def make_patch(note: NoteDraft, incident: IncidentView, *, journey: Journey, agents_md: str) -> str:
    """A unified diff for the repository's root; empty when agents.md has this very rule already.

    `journey` is planned from the runbook that the run kept: it says how the gates were written. Raises BadInput (no
    marked section or a full one, a rule without words, no recorded evidence), Conflict (another rule of this number).
    """
    if len(agents_md) > MAX_AGENTS:
        raise BadInput("agents.md is larger than 1 MiB", "it should be a short map: shorten it")
    lines = _split(agents_md)
    section = rule.section(lines)
    rules = [lines[at].rstrip() for at in section]
    known = rule.numbers(rules)
    path = f"tests/regressions/hn-{note.id}.json"
    review_by = (note.at + REVIEW_AFTER).date()
    new = rule.line(note.id, note.rule, incident=incident.number, review_by=review_by, test=path)
    if new in rules:
        return ""
    if note.id in known:
        raise Conflict(f"agents.md has another rule HN-{note.id}", "number the note anew: see next_number")
    if len(known) >= rule.MAX_RULES:
        raise BadInput(f"agents.md has {len(known)} harness rules", "retire one, or make a gate or a lint of it, first")
    ending = "\r" if lines[section.stop].endswith("\r") else ""
    return _insertion("agents.md", lines, section.stop, new + ending) + _new_file(
        path, fixture.render(note, incident, journey)
    )


def _split(text: str) -> list[str]:
    """Lines as git counts them: by line feed alone. The last is empty when the text ends in one."""
    return text.split("\n")


def _insertion(path: str, lines: list[str], at: int, new: str) -> str:
    """The hunk that puts `new` before line number `at` (from 0)."""
    whole = lines[-1] == ""
    count = len(lines) - 1 if whole else len(lines)
    start, stop = max(0, at - CONTEXT), min(count, at + CONTEXT)
    size = stop - start
    hunk = [
        f"diff --git a/{path} b/{path}",
        f"--- a/{path}",
        f"+++ b/{path}",
        f"@@ -{start + 1},{size} +{start + 1},{size + 1} @@",
        *(f" {text}" for text in lines[start:at]),
        f"+{new}",
        *(f" {text}" for text in lines[at:stop]),
    ]
    if stop == count and not whole:
        hunk.append("\\ No newline at end of file")
    return "\n".join(hunk) + "\n"


def _new_file(path: str, text: str) -> str:
    lines = _split(text)[:-1]
    head = [
        f"diff --git a/{path} b/{path}",
        "new file mode 100644",
        "--- /dev/null",
        f"+++ b/{path}",
        f"@@ -0,0 +1,{len(lines)} @@",
    ]
    return "\n".join([*head, *(f"+{line}" for line in lines)]) + "\n"
