"""How a gate enters a target's database: a port of its own, for few runbooks have one. Bound by orchestration."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAccess:
    """The verifier's own way into a target's database. `host` is a name of the directory, `port` one of its ports."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)


@runtime_checkable
class DatabaseProbe(Protocol):
    """What a probe also is where the verifier may enter databases."""

    def database(self, target: str, timeout_s: float) -> AbstractContextManager[DatabaseAccess]:
        """The password lives as long as the block. Raises SignalboxError on entering, or when its token lives on."""
