"""The chain of an incident's events: each link's hash covers the event and the hash before it.

An event cannot be edited, dropped or moved without every later hash changing. The hash is SHA-256 over canonical JSON
(`engine.domain.digest`), so that anybody can recompute it from an export, offline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.domain.digest import of_value

GENESIS = "genesis"
""" What the first event of an incident names as the hash before it. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One event as the chain sees it. `seq` counts from 1; `move` is (source, target) of a run's move."""

    incident: int
    seq: int
    run_id: str | None
    at: datetime
    kind: str
    actor: str
    text: str
    detail: Mapping[str, Any]
    move: tuple[str, str] | None

    def hash(self, previous: str) -> str:
        """The link's hash, given that of the link before it (`GENESIS` for the first)."""
        value = {
            "previous": previous,
            "incident": self.incident,
            "seq": self.seq,
            "run": self.run_id,
            "at": spelled(self.at),
            "kind": self.kind,
            "actor": self.actor,
            "text": self.text,
            "detail": self.detail,
            "move": list(self.move) if self.move else None,
        }
        return of_value(value)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest link of a chain; `seq` 0 when there is none."""

    seq: int
    hash: str


EMPTY = Head(0, GENESIS)


def spelled(moment: datetime) -> str:
    """A moment as it is hashed and exported: UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
