"""Whether a runbook may be started: only the edition that somebody activated, byte for byte."""

from __future__ import annotations

from engine.domain.errors import Refused
from engine.domain.runbook import Snapshot
from engine.store import activations, models
from engine.store.session import Session


def must_be_activated(session: Session, snapshot: Snapshot) -> models.Activation:
    """Who activated it and when; raises Refused, which says what changed since when and what to do."""
    name = snapshot.runbook.name
    row = activations.newest(session, name)
    if row is None:
        raise Refused(f"runbook {name} was never activated", f"read it, then: signalbox runbook activate {name}")
    who, when = row.by_name or row.by, f"{row.at:%Y-%m-%d %H:%M} UTC"
    if not row.on:
        raise Refused(
            f"runbook {name} was deactivated by {who} on {when}" + (f": {row.reason}" if row.reason else ""),
            f"signalbox runbook activate {name}, once the reason is gone",
        )
    if row.digest != snapshot.digest:
        raise Refused(
            f"runbook {name} changed since {who} activated it on {when}",
            f"read: signalbox runbook diff {name} --activated. Then: signalbox runbook activate {name}, or put it back",
        )
    return row
