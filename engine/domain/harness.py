"""A harness note before it is kept: where the agent (or anything else) drifted or skipped, and what to change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from engine.domain.incident import Person


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteDraft:
    """What a person wrote. `steps`: step id -> followed | drifted | skipped. `rule` becomes a line of agents.md."""

    id: int
    by: Person
    at: datetime
    steps: Mapping[str, str]
    what: str
    change: str
    rule: str
