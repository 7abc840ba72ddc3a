"""An alert: one normalised message from a source. Triggers make them, coordination opens incidents from them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


class AlertStatus(enum.StrEnum):
    """Whether the source says that the problem is there."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Severity(enum.StrEnum):
    """How bad the source says it is. Unknown is legal: many sources send none."""

    CRITICAL = "critical"
    HIGH = "high"
    WARNING = "warning"
    INFO = "info"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. All text in it is untrusted: escape it for wherever it goes.

    `fingerprint` is stable over the life of the problem; (source, fingerprint, starts_at) is one episode.
    `group_key` is what the source grouped by; an incident absorbs all alerts of its group.
    """

    source: str
    fingerprint: str
    name: str
    status: AlertStatus
    severity: Severity
    title: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime | None
    group_key: str
    link: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One authenticated body of a source. `key` is the same for a repeated delivery, so that it counts once.

    `group` is set by senders without delivery ids, whose key is made of what they say: there, only what equals the
    last body of its group is a repeat (firing, resolved, firing again is news). Without it a key counts once for ever.
    """

    source: str
    key: str
    body: bytes
    group: str | None = None
