"""What runs on the targets of a world: the demo's `checkout`, or the service of one runbook of the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service. Its name is also its user, its folder under /srv, and part of its hosts' names.

    `settings` (of an env) are told to boot.sh and service.sh as shell assignments; `data` (of an env) is what lies on
    the data disk at first: path under /srv -> content. `files` are laid over those of the image at /run/world; among
    them `service.sh`, which runs the service in the foreground as its user, and is run again whenever it ends.
    `broken`: the envs in which it does not answer at first. `watched`: whether a Prometheus looks at it.
    `database`: the port that its database listens on, if it has one.
    `ca`: the certificates that it is verified with; without them it speaks plain http.
    """

    name: str
    settings: Callable[[str], Mapping[str, object]]
    data: Callable[[str], Mapping[str, bytes]]
    files: Mapping[str, bytes] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    watched: bool = True
    database: int | None = None
    ca: bytes = b""
