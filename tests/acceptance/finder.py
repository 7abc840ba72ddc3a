"""Finds planted secrets in whatever was collected: plain and in every encoding that the engine's redactor knows."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from engine.secrets.encodings import variants


class Kind(enum.StrEnum):
    """Where a secret must never be."""

    DATABASE = "database"
    DATABASE_FILE = "database file"
    ARTEFACT = "artefact"
    DOMAIN_XML = "domain XML"
    LIBVIRT_LOG = "libvirt log"
    ARGV = "argv"
    ENVIRON = "environ"
    RECEIVED = "received by Slack"
    PAGE = "page"
    OUR_LOG = "our log"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Place:
    """One thing that was looked at."""

    kind: Kind
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret, by name, and where it stands."""

    secret: str
    kind: Kind
    place: str


class Finder:
    """Knows the planted secrets by name. `public`: values whose every variant is no secret (a frame, a constant)."""

    def __init__(self, secrets: Mapping[str, str], public: Collection[str] = ()) -> None:
        harmless = frozenset(variant for value in public for variant in variants(value))
        self.secrets = secrets
        self._needles = {name: _shortest(variants(value) - harmless) for name, value in secrets.items()}

    @property
    def needles(self) -> Mapping[str, tuple[bytes, ...]]:
        """What is looked for, by secret."""
        return self._needles

    def search(self, places: Iterable[Place]) -> list[Leak]:
        """Every secret in every place."""
        return [
            Leak(name, place.kind, place.name)
            for place in places
            for name, needles in self._needles.items()
            if any(needle in place.content for needle in needles)
        ]


def _shortest(texts: Collection[str]) -> tuple[bytes, ...]:
    """Those that contain no other: whatever contains a longer one contains one of these."""
    kept: list[str] = []
    for text in sorted(texts, key=len):
        if not any(short in text for short in kept):
            kept.append(text)
    return tuple(text.encode() for text in kept)
