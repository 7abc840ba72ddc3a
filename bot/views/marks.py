"""One table of signs: how a leg's mark, a verdict or a state looks in Slack (emoji) and on a page (sign, class).

Few and plain emoji, each of which the stand-in workspace draws without an emoji font.
"""

from __future__ import annotations

_MARKS = {
    # mark: (emoji, sign on a page, css class)
    "todo": ("⚪", "○", "quiet"),
    "doing": ("⏳", "◐", "busy"),
    "done": ("✔️", "✓", "good"),
    "held": ("✅", "✓", "good"),
    "failed": ("❌", "✗", "bad"),
    "inconclusive": ("🟡", "?", "odd"),
    "error": ("⚠️", "!", "odd"),
    "waiting": ("⏸️", "◆", "asks"),
    "skipped": ("–", "–", "quiet"),
    # attempts
    "started": ("⏳", "◐", "busy"),
    "finished": ("✔️", "✓", "good"),
    "paused": ("⏸️", "◆", "asks"),
    "lost": ("⚠️", "!", "odd"),
    "unknown": ("🟡", "?", "odd"),
    "refused": ("⛔", "✗", "bad"),
    # runs
    "new": ("⚪", "○", "quiet"),
    "queued": ("⏳", "◔", "busy"),
    "running": ("⏳", "◐", "busy"),
    "judging": ("⏳", "◑", "busy"),
    "awaiting_approval": ("⏸️", "◆", "asks"),
    "halted": ("🛑", "■", "bad"),
    "completed": ("✅", "✓", "good"),
    "rolled_back": ("↩️", "↩", "odd"),
    "taken_over": ("🟠", "●", "odd"),
    "abandoned": ("⛔", "✗", "odd"),
    # approvals
    "pending": ("⏸️", "◆", "asks"),
    "approved": ("✅", "✓", "good"),
    "consumed": ("✅", "✓", "good"),
    "rejected": ("❌", "✗", "bad"),
    "expired": ("⌛", "!", "odd"),
    "voided": ("⛔", "✗", "bad"),
    # incidents and alerts
    "open": ("🚨", "●", "bad"),
    "closed": ("✅", "✓", "good"),
    "firing": ("🔴", "●", "bad"),
    "resolved": ("✅", "✓", "good"),
    # harness notes
    "followed": ("✅", "✓", "good"),
    "drifted": ("🟠", "~", "odd"),
}
_UNKNOWN = ("•", "•", "quiet")
NAMES = frozenset(_MARKS)


def emoji(name: str) -> str:
    """The emoji of a mark or state; a bullet for one that is not known here."""
    return _MARKS.get(name, _UNKNOWN)[0]


def sign(name: str) -> tuple[str, str]:
    """The sign and the css class of a mark or state on a page."""
    _, shown, style = _MARKS.get(name, _UNKNOWN)
    return shown, style
