"""What the chain says of the rows beside it: each event that speaks of a row carries the digest of its record.

A record holds what never changes again in a row, so that neither evidence nor a decision can be edited unseen. Its
moments are hashed as the chain spells them. An attempt has two: one when it starts, one when it ends.

`SPOKEN`: the key in an event's detail that holds the row's id, and the one that holds the digest of the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from engine.domain.chain import Head, Link, spelled
from engine.domain.digest import of_value

SEALED = "sealed"
""" In the detail of an event: what it says of several rows at once. """


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRecord:
    """An incident as it was opened."""

    SPOKEN: ClassVar = ("incident", "opened")
    WHEN: ClassVar = "opened_at"

    id: str
    title: str
    severity: str
    opened_by: str
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as it was opened. `files`: path -> base64 of the runbook's files."""

    SPOKEN: ClassVar = ("run", "begun")
    WHEN: ClassVar = "opened_at"

    id: str
    runbook: str
    runbook_digest: str
    source: str
    files: Mapping[str, str]
    inputs: Mapping[str, Any]
    chosen_by: str
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStart:
    """What was to be done, where, by what order."""

    SPOKEN: ClassVar = ("attempt", "start")
    WHEN: ClassVar = "started_at"

    id: str
    run: str
    leg: str
    step: str
    target: str | None
    changes: bool
    idempotent: bool
    worker: str
    started_at: datetime
    content_digest: str
    order_digest: str
    uses_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """What came of an attempt; of one that came back `late` twice: when it was given up, and when it came back."""

    SPOKEN: ClassVar = ("attempt", "result")
    WHEN: ClassVar = "ended_at"

    id: str
    run: str
    state: str
    ended_at: datetime
    reason: str
    stdout: str
    stderr: str
    output: Mapping[str, Any] | None
    artefact_digest: str | None
    connections: tuple[Any, ...]
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord:
    """What a gate found, with its evidence."""

    SPOKEN: ClassVar = ("verdict", "evidence")
    WHEN: ClassVar = "ended_at"

    id: str
    run: str
    leg: str
    of: str
    verdict: str
    why: str
    checks: tuple[Any, ...]
    begun_at: datetime
    ended_at: datetime
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRecord:
    """What a person was asked, and shown. The answer is a decision."""

    SPOKEN: ClassVar = ("approval", "asked")
    WHEN: ClassVar = "requested_at"

    id: str
    run: str
    leg: str
    content_digest: str
    order_digest: str
    lines: Mapping[str, Any]
    preview: str
    requested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """What a named person chose, on which question, for which order."""

    SPOKEN: ClassVar = ("decision", "said")
    WHEN: ClassVar = "at"

    id: str
    run: str
    approval: str | None
    escalation: str | None
    choice: str
    order_digest: str | None
    by: str
    by_name: str
    at: datetime
    reason: str


Record = IncidentRecord | RunRecord | AttemptStart | AttemptEnd | VerdictRecord | ApprovalRecord | DecisionRecord
R = TypeVar("R", bound=Record)

KINDS: tuple[type[Record], ...] = (
    IncidentRecord,
    RunRecord,
    AttemptStart,
    AttemptEnd,
    VerdictRecord,
    ApprovalRecord,
    DecisionRecord,
)


@dataclass(frozen=True, slots=True)
class Chained:
    """An event and the hash that is stored with it."""

    link: Link
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """All that is kept of an incident as evidence, as it stands in the database. Records lie in the order of time."""

    incident: IncidentRecord
    head: Head
    events: tuple[Chained, ...]
    runs: tuple[RunRecord, ...]
    attempts: tuple[AttemptStart, ...]
    results: tuple[AttemptEnd, ...]
    verdicts: tuple[VerdictRecord, ...]
    approvals: tuple[ApprovalRecord, ...]
    decisions: tuple[DecisionRecord, ...]

    def kinds(self) -> Iterator[tuple[Record, ...]]:
        """The records, by kind."""
        yield (self.incident,)
        yield self.runs
        yield self.attempts
        yield self.results
        yield self.verdicts
        yield self.approvals
        yield self.decisions

    def records(self) -> Iterator[Record]:
        """Every record."""
        for records in self.kinds():
            yield from records


def in_order(records: Iterable[R]) -> tuple[R, ...]:
    """Records of one kind in the order of time."""
    return tuple(sorted(records, key=lambda record: (getattr(record, record.WHEN), record.id)))


def digest_of(record: Record) -> str:
    """The digest of a record; raises ValueError for what cannot be hashed (`engine.domain.digest`)."""
    return of_value([*record.SPOKEN, as_json(record)])


def said(record: Record) -> dict[str, str]:
    """What the event that speaks of a row carries in its detail."""
    word, what = record.SPOKEN
    return {word: record.id, what: digest_of(record)}


def spoken(detail: Mapping[str, Any]) -> Iterator[tuple[type[Record], str, str]]:
    """Of which records an event speaks: kind, id, digest. The detail may be a stranger's."""
    several = detail.get(SEALED)
    for part in (detail, *(several if isinstance(several, list) else ())):
        for kind in KINDS if isinstance(part, Mapping) else ():
            word, what = kind.SPOKEN
            name, digest = part.get(word), part.get(what)
            if isinstance(name, str) and isinstance(digest, str):
                yield kind, name, digest


def as_json(value: object) -> Any:
    """Records, links and what they hold, as JSON: moments as the chain spells them, tuples as lists."""
    match value:
        case datetime():
            return spelled(value)
        case Mapping():
            return {key: as_json(item) for key, item in value.items()}
        case list() | tuple():
            return [as_json(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    return value
