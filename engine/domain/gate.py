"""Gates: typed checks, what they measured, and the verdict. Kinds are measured by `engine.gates`, one file a kind.

A condition (`expect`) is CEL; only the boolean true holds. No data never holds.
Which checks are independent is decided by their type and target, never by an author's word.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from engine.domain import digest
from engine.domain.states import Verdict

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Parse(enum.StrEnum):
    """How a command's output becomes the variable `out`. What does not parse is an error, so the gate stays shut."""

    TEXT = "text"
    INT = "int"
    PERCENT = "percent"
    JSON = "json"
    LINES = "lines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """`count` samples, `every_s` apart (really waited for); all of them must hold."""

    count: int = 1
    every_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCheck:
    """A command run on `target` by the verifier, from a VM of its own. CEL sees `out` (parsed) and `code`."""

    id: str
    target: str
    run: tuple[str, ...]
    expect: str
    parse: Parse = Parse.TEXT
    code: int = 0
    timeout_s: int = 60
    sampling: Sampling = field(default_factory=Sampling)
    type: str = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """An HTTP GET from the worker's host to a configured endpoint. CEL sees `status`, `ms`, `body`, `json`."""

    id: str
    target: str
    path: str
    expect: str
    timeout_s: int = 10
    sampling: Sampling = field(default_factory=Sampling)
    type: str = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromqlCheck:
    """An instant query to the configured Prometheus. CEL sees `result` (list of numbers, in the order returned).

    No sample, a NaN, or samples older than `max_age_s` are no data.
    """

    id: str
    target: str
    query: str
    expect: str
    max_age_s: int = 60
    timeout_s: int = 10
    sampling: Sampling = field(default_factory=Sampling)
    type: str = "promql"


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestCheck:
    """The content digests of two attempts are equal: what was tested is what is (to be) applied. Never independent.

    `of` and `equals` name steps; before `of` ran, its planned content digest is taken.
    """

    id: str
    of: str
    equals: str
    type: str = "digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExprCheck:
    """CEL over a step's own output (`out`): a claim, never independent. `unless` true makes it inconclusive."""

    id: str
    of: str
    expect: str
    unless: str | None = None
    type: str = "expr"


VARIABLES: Mapping[str, frozenset[str]] = {
    "command": frozenset({"out", "code"}),
    "http": frozenset({"status", "ms", "body", "json"}),
    "promql": frozenset({"result"}),
    "expr": frozenset({"out"}),
}
""" What a condition of each type may name. Lint refuses other names; the kinds set exactly these. """

LOOP = re.compile(r"\b(?:all|exists|exists_one|existsOne|map|filter)\b")
MAX_LOOPS = 2
""" CEL has no budget of steps, so loops over untrusted values are counted before. """

Check = CommandCheck | HttpCheck | PromqlCheck | DigestCheck | ExprCheck
INDEPENDENT = (CommandCheck, HttpCheck, PromqlCheck)
""" Measured by something else than the step, with other credentials. """
OFF_HOST = (HttpCheck, PromqlCheck)
""" Taken from off the changed host: a step that can write a host can forge what runs on it. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement. `seen` is the redacted evidence, verbatim and JSON-able; `why` is one line for a person."""

    verdict: Verdict
    why: str
    seen: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check found over all its samples."""

    check_id: str
    type: str
    definition: str
    verdict: Verdict
    why: str
    samples: tuple[Sample, ...]
    independent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What a gate found. Evidence is kept verbatim in the samples."""

    verdict: Verdict
    why: str
    checks: tuple[CheckResult, ...]
    begun_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a check may refer to. `claims` are steps' own outputs; `digests` are ours: a claim can never write there.

    `hosts`: target of the runbook -> its host's name in the directory (the runbook says it, so a run can not).
    `changed_at`: when the change that the gate certifies ended; what was sampled before it says nothing about it.
    """

    inputs: Mapping[str, str]
    claims: Mapping[str, Json]
    digests: Mapping[str, str]
    hosts: Mapping[str, str] = field(default_factory=dict)
    changed_at: datetime | None = None


def definition(check: Check) -> str:
    """The digest of a check as it is written: what was measured can be told from what is in the file today."""
    return digest.of_value(asdict(check))
