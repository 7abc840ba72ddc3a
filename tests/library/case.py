"""What a test of a library's runbook is told of it: one small file a runbook makes one `Case`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from demo.world.image import TARGET
from demo.world.service import Service
from demo.world.target import Target
from engine.runtime.image import ImageSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A bad variant: in this file below the folder of runbooks, `old` is `new`. It must be there exactly once."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A variant that must not reach production: what is wrong with it, and the gate (and its check) that says so.

    `tapes`: what the models of its agents say instead of the case's.
    """

    name: str
    edits: tuple[Edit, ...] = ()
    tapes: tuple[Path, ...] = ()
    gate: str
    check: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One runbook: the service that it mends, broken from the start, its alert's labels, and its bad variants.

    `gone` looks at production by the test's own login and says whether the fault is gone; `ripe` whether it has come so
    far that its alert fires.
    `still`: a command whose output is the same as long as nobody touched production, where its files do not tell.
    `secrets`: what else lies in Vault, full API path -> fields. `image`: what the targets boot. `others` runs what else
    the steps dial, and gives the entries of the directory for it. `tapes`: what the models of its agents say, if any.
    """

    runbook: str
    broke: str
    service: Service
    labels: Mapping[str, str]
    gone: Callable[[Target], bool]
    bad: tuple[Bad, ...]
    ripe: Callable[[Target], bool] = lambda _target: True
    still: str = "true"
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    image: ImageSpec = TARGET
    others: Callable[[], AbstractContextManager[Mapping[str, object]]] = lambda: nullcontext({})
    tapes: tuple[Path, ...] = ()
