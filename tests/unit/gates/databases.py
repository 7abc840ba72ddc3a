"""A verifier that may enter a database, for tests of the kind `sql`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.domain.databases import DatabaseAccess
from engine.domain.errors import SignalboxError
from engine.domain.ports import ProbeAnswer


@dataclass
class Entering:
    """Hands out one access, and keeps what it was asked; `refuses` on entering, `lives_on` on leaving."""

    access: DatabaseAccess
    refuses: SignalboxError | None = None
    lives_on: SignalboxError | None = None
    open: list[str] = field(default_factory=list)

    def __call__(self, target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
        raise AssertionError("this kind must not run a command")

    @contextlib.contextmanager
    def database(self, target: str, timeout_s: float) -> Iterator[DatabaseAccess]:
        if self.refuses:
            raise self.refuses
        self.open.append(target)
        yield self.access
        self.open.remove(target)
        if self.lives_on:
            raise self.lives_on
