"""Checking a bundle offline: the signatures of the anchors, the chain, and every record that an event speaks of.

Needs no database and no configuration. Raises `Broken`, which names the first broken row in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from engine.domain.chain import GENESIS, Link, spelled
from engine.domain.errors import BadInput, Refused
from engine.domain.records import Chained, Dossier, Record, digest_of, in_order, spoken
from engine.evidence import line as lines
from engine.evidence.bundle import Bundle
from engine.evidence.line import Line, Seen

KEPT = "keep this file and the database as they are, and find out who can write the database"


class Broken(Refused):
    """The evidence does not hold."""

    def __init__(self, message: str, remedy: str = KEPT) -> None:
        super().__init__(message, remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What holds. `anchored`: so many of the events are covered by an anchor, the last one of `anchored_at`."""

    incident: str
    events: int
    records: int
    anchored: int
    anchored_at: str

    @property
    def unanchored(self) -> int:
        """Events after the last anchor."""
        return self.events - self.anchored


def verify(bundle: Bundle, keys: Mapping[str, Ed25519PublicKey]) -> Report:
    """Check all of it. `keys`: the public keys that may have signed, by fingerprint. Raises Broken."""
    dossier = bundle.dossier
    anchors = _anchors(dossier.incident.id, bundle.anchors, keys)
    _chain(dossier, anchors)
    _records(dossier)
    if not anchors:
        raise Broken(
            f"incident {dossier.incident.id} is not anchored: no signed line mentions it, so whoever can write the "
            "database could have written all of this",
            "export it again where the anchors file lies (SIGNALBOX_ANCHORS), after the next anchor",
        )
    last = anchors[-1]
    return Report(
        incident=dossier.incident.id,
        events=len(dossier.events),
        records=sum(1 for _ in dossier.records()),
        anchored=last.seen.seq,
        anchored_at=last.at,
    )


# -- anchors


@dataclass(frozen=True, slots=True)
class _Anchor:
    at: str
    seen: Seen


def _anchors(incident: str, texts: Sequence[str], keys: Mapping[str, Ed25519PublicKey]) -> tuple[_Anchor, ...]:
    """What signed lines saw of this incident, oldest first."""
    found: list[_Anchor] = []
    before: Line | None = None
    for number, text in enumerate(texts, 1):
        line = _line(number, text, keys)
        if before is not None and line.previous != before.digest:
            raise Broken(
                f"anchor line {number} (of {line.at}) does not follow the one before it (of {before.at}): "
                "a line between them was taken out, or they changed places"
            )
        before = line
        seen = line.head(int(incident)) if incident.isdecimal() else None
        if seen is None:
            continue
        if seen.after != (found[-1].seen.seq if found else 0):
            raise Broken(
                f"the anchor of {line.at} follows one of event {seen.after}, which is not here: it was taken out"
            )
        found.append(_Anchor(line.at, seen))
    return tuple(found)


def _line(number: int, text: str, keys: Mapping[str, Ed25519PublicKey]) -> Line:
    try:
        line = lines.read(text)
    except BadInput:
        raise Broken(f"anchor line {number} is not one that Signalbox wrote") from None
    why = line.complaint(keys)
    if why:
        raise Broken(f"anchor line {number} (of {line.at}) {why}")
    return line


# -- the chain


def _chain(dossier: Dossier, anchors: Sequence[_Anchor]) -> None:
    """Walk the events in order; the first that is not as it was is named."""
    events, incident = dossier.events, dossier.incident.id
    signed = {anchor.seen.seq: anchor for anchor in anchors}
    previous, anchored = GENESIS, 0
    for place, event in enumerate(events, 1):
        if event.link.seq != place:
            raise _misplaced(events, place, incident)
        if str(event.link.incident) != incident:
            raise Broken(f"{_name(event.link, incident)} belongs to incident {event.link.incident}")
        if event.hash != event.link.hash(previous):
            raise _edited(events, place, previous, incident)
        anchor = signed.get(place)
        if anchor is not None and anchor.seen.hash != event.hash:
            raise Broken(
                f"{_name(event.link, incident)} is not the one that was anchored on {anchor.at}: "
                f"{_between(anchored + 1, place)} was rewritten, and the chain recomputed without the signing key"
            )
        anchored = place if anchor is not None else anchored
        previous = event.hash
    if anchors and anchors[-1].seen.seq > len(events):
        cut = next(anchor for anchor in anchors if anchor.seen.seq > len(events))
        raise Broken(
            f"event {len(events) + 1} of incident {incident} is missing: the chain ends at event {len(events)}, and "
            f"the anchor of {cut.at} saw event {cut.seen.seq}: the tail was cut off"
        )
    _head(dossier, previous)


def _head(dossier: Dossier, newest: str) -> None:
    head, count, incident = dossier.head, len(dossier.events), dossier.incident.id
    if head.seq > count:
        raise Broken(
            f"event {count + 1} of incident {incident} is missing: the incident's own row says that its chain has "
            f"{head.seq} events: the tail was cut off"
        )
    if (head.seq, head.hash) != (count, newest):
        raise Broken(
            f"the incident's own row says that its chain ends at event {head.seq} ({head.hash[7:19]}), and it ends at "
            f"event {count} ({newest[7:19]}): one of them was written by somebody else"
        )


def _misplaced(events: Sequence[Chained], place: int, incident: str) -> Broken:
    """Another event stands where this one belongs."""
    link = events[place - 1].link
    if any(event.link.seq == place for event in events[place:]):
        return Broken(f"events {place} and {link.seq} of incident {incident} are not in their order: they were moved")
    if link.seq < place:
        return Broken(f"{_name(link, incident)} is there twice: one of them was put in")
    return Broken(
        f"event {place} of incident {incident} is missing: it was deleted (the next one is {_name(link, incident)})"
    )


def _edited(events: Sequence[Chained], place: int, previous: str, incident: str) -> Broken:
    """The stored hash is not that of the event. One whose hash fits this place, had it stood here, was moved away."""
    for other in events[place:]:
        if other.hash == replace(other.link, seq=place).hash(previous):
            return Broken(
                f"{_name(events[place - 1].link, incident)} stands where event {other.link.seq} belongs: "
                "they changed places"
            )
    return Broken(
        f"{_name(events[place - 1].link, incident)}: its hash does not match: it, or an event before it, was edited"
    )


def _name(link: Link, incident: str) -> str:
    return f"event {link.seq} of incident {incident} ({link.kind[:60]} at {spelled(link.at)})"


def _between(first: int, last: int) -> str:
    return "it" if first == last else f"something in events {first} to {last}"


# -- records


def _records(dossier: Dossier) -> None:
    """Every record is what the newest event that speaks of it says; every one that an event speaks of is here."""
    here = _by_name(dossier)
    said: dict[tuple[type[Record], str], tuple[str, Link]] = {}
    for event in dossier.events:
        for kind, name, digest in spoken(event.link.detail):
            said[kind, name] = (digest, event.link)
    incident = dossier.incident.id
    for (kind, name), (digest, link) in said.items():
        record = here.pop((kind, name), None)
        what = f"{_called(kind)} {name[:40]}"
        if record is None:
            raise Broken(f"{what} is missing: {_name(link, incident)} speaks of it, so it was deleted")
        if digest_of(record) != digest:
            raise Broken(f"{what} is not what {_name(link, incident)} says of it: it was edited")
    for kind, name in here:
        raise Broken(f"no event speaks of {_called(kind)} {name[:40]}: it was put in afterwards")


def _by_name(dossier: Dossier) -> dict[tuple[type[Record], str], Record]:
    """Records by kind and id; they lie in the order of time, and none is there twice."""
    for kind in dossier.kinds():
        astray = next((one for one, other in zip(kind, in_order(kind), strict=True) if one is not other), None)
        if astray is not None:
            raise Broken(f"{_called(type(astray))} {astray.id[:40]} is not in its place: rows were moved")
    records = [(type(record), record.id) for record in dossier.records()]
    twice = next((found for found, count in Counter(records).items() if count > 1), None)
    if twice is not None:
        raise Broken(f"{_called(twice[0])} {twice[1][:40]} is there twice: one of them was put in")
    return dict(zip(records, dossier.records(), strict=True))


def _called(kind: type[Record]) -> str:
    """What an auditor calls it."""
    word, what = kind.SPOKEN
    return f"the {what} of {word}" if word == "attempt" else word
