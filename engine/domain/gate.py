"""Gates: typed checks, what they measured, and the verdict. Kinds are measured by `engine.gates`, one file a kind.

A condition (`expect`) is CEL; only the boolean true holds. No data never holds.
Which checks are independent is decided by their type and target, never by an author's word.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
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


class NoData(enum.StrEnum):
    """What it means when there was nothing to measure (no series, rows, lines, output). Nothing here opens a gate."""

    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"


LATER: Mapping[str, bool] = {"later": True}
""" Marks a field that older definitions do not have: while it says nothing, it is no part of a check's digest. """


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
    control: CommandCheck | None = field(default=None, metadata=LATER)
    type: str = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """An HTTP GET from the worker's host to a configured endpoint. CEL sees `status`, `ms`, `body`, `json`, `cert`.

    `cert` is what the endpoint proved itself with, null over plain http: {days_left: float, subject, issuer, serial:
    text, names: list of text}. One that does not verify has FAILED, whatever the condition says.
    """

    id: str
    target: str
    path: str
    expect: str
    timeout_s: int = 10
    sampling: Sampling = field(default_factory=Sampling)
    control: HttpCheck | None = field(default=None, metadata=LATER)
    type: str = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromqlCheck:
    """A query to the configured Prometheus. CEL sees `result` (list of numbers, in the order returned) and `before`,
    the same query's answer when the change began.

    No sample, a NaN, or samples older than `max_age_s` are no data. `for_s`: the condition is true at every step of the
    last so many seconds, all of them after the change.
    """

    id: str
    target: str
    query: str
    expect: str
    max_age_s: int = 60
    timeout_s: int = 10
    sampling: Sampling = field(default_factory=Sampling)
    for_s: int = field(default=0, metadata=LATER)
    no_data: NoData = field(default=NoData.INCONCLUSIVE, metadata=LATER)
    control: PromqlCheck | None = field(default=None, metadata=LATER)
    type: str = "promql"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlCheck:
    """A query to the target's database by the verifier's own login, READ ONLY. CEL sees `rows`, a list of objects.

    No rows are no data; more than `max_rows` are an error.
    """

    id: str
    target: str
    query: str
    expect: str
    max_rows: int = 100
    timeout_s: int = 10
    sampling: Sampling = field(default_factory=Sampling)
    no_data: NoData = NoData.INCONCLUSIVE
    control: SqlCheck | None = None
    type: str = "sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCheck:
    """What the verifier's command prints on the target, line by line, since the change (without one: `within_s`).

    Every pattern of `present` is in some line, none of `absent` in any. A line begins with its time (ISO 8601, or
    seconds since 1970); one that does not belongs to the line before. `utc`: a time without a zone is UTC; otherwise it
    says nothing. No line since then is no data. `for_s`: the log is read no sooner than so long after the change.
    """

    id: str
    target: str
    run: tuple[str, ...]
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    utc: bool = False
    within_s: int = 600
    for_s: int = 0
    timeout_s: int = 60
    sampling: Sampling = field(default_factory=Sampling)
    no_data: NoData = NoData.INCONCLUSIVE
    control: LogCheck | None = None
    type: str = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A command that the verifier runs, and the name that its parsed output has in a diagnosis's condition."""

    name: str
    run: tuple[str, ...]
    parse: Parse = Parse.TEXT
    code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is true on a target that has this cause. CEL sees every fact by its name."""

    cause: str
    facts: tuple[Fact, ...]
    expect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternCheck:
    """A known diagnosis, measured again by the verifier. Step `of` only says which: the text in `cause` of its output.

    A cause that is none of `known` does not hold.
    """

    id: str
    target: str
    of: str
    cause: str
    known: tuple[Diagnosis, ...]
    timeout_s: int = 60
    sampling: Sampling = field(default_factory=Sampling)
    no_data: NoData = NoData.INCONCLUSIVE
    type: str = "pattern"


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
    no_data: NoData = field(default=NoData.INCONCLUSIVE, metadata=LATER)
    type: str = "expr"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaCheck:
    """A step's own output fits a JSON Schema, of the keywords that we know: a claim, never independent."""

    id: str
    of: str
    schema: Mapping[str, Json]
    no_data: NoData = NoData.INCONCLUSIVE
    type: str = "schema"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffCheck:
    """How far the artefact of step `of` goes beyond that of step `against` (without one: beyond nothing). We compute it
    from the bytes. Every changed path matches a glob of `allow`, part by part. Never independent.
    """

    id: str
    of: str
    allow: tuple[str, ...]
    max_files: int
    max_lines: int
    against: str | None = None
    no_data: NoData = NoData.INCONCLUSIVE
    type: str = "diff"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """One rule, by the name under which it is reported. CEL sees `doc`."""

    id: str
    expect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCheck:
    """Rules over JSON: the output of step `of`, or `file` of its artefact. Each must be true. Never independent."""

    id: str
    of: str
    rules: tuple[PolicyRule, ...]
    file: str | None = None
    no_data: NoData = NoData.INCONCLUSIVE
    type: str = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumCheck:
    """`need` of these checks hold. All are measured; only independent ones count, and each question once."""

    id: str
    need: int
    checks: tuple[Check, ...]
    type: str = "quorum"


VARIABLES: Mapping[str, frozenset[str]] = {
    "command": frozenset({"out", "code"}),
    "http": frozenset({"status", "ms", "body", "json", "cert"}),
    "promql": frozenset({"result", "before"}),
    "sql": frozenset({"rows"}),
    "expr": frozenset({"out"}),
    "policy": frozenset({"doc"}),
}
""" What a condition of each type may name. Lint refuses other names; the kinds set exactly these. """

LOOP = re.compile(r"\b(?:all|exists|exists_one|existsOne|map|filter)\b")
MAX_LOOPS = 2
""" CEL has no budget of steps, so loops over untrusted values are counted before. """

Check = (
    CommandCheck
    | HttpCheck
    | PromqlCheck
    | SqlCheck
    | LogCheck
    | PatternCheck
    | DigestCheck
    | ExprCheck
    | SchemaCheck
    | DiffCheck
    | PolicyCheck
    | QuorumCheck
)
INDEPENDENT = (CommandCheck, HttpCheck, PromqlCheck, SqlCheck, LogCheck, PatternCheck)
""" Measured by something else than the step, with other credentials. A quorum of them: see `engine.domain.within`. """
OFF_HOST = (HttpCheck, PromqlCheck, SqlCheck)
""" Taken from off the changed host: a step that can write a host can forge what runs on it. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement. `seen` is the redacted evidence, verbatim and JSON-able; `why` is one line for a person.

    `no_data`: there was nothing to judge, which the check may call a failure; it is never held.
    """

    verdict: Verdict
    why: str
    seen: Json = None
    no_data: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check found over all its samples. One in shadow is told, and neither opens nor closes."""

    check_id: str
    type: str
    definition: str
    verdict: Verdict
    why: str
    samples: tuple[Sample, ...]
    independent: bool
    shadow: bool = False


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
    `begun_at`: when that change began; of a gate without a change, when its measuring began.
    `artefacts`: step -> the canonical archive that it made, of those that the gate's checks name.
    """

    inputs: Mapping[str, str]
    claims: Mapping[str, Json]
    digests: Mapping[str, str]
    hosts: Mapping[str, str] = field(default_factory=dict)
    changed_at: datetime | None = None
    begun_at: datetime | None = None
    artefacts: Mapping[str, bytes] = field(default_factory=dict)


def definition(check: Check) -> str:
    """The digest of a check as it is written: what was measured can be told from what is in the file today."""
    silent = {one.name for one in fields(check) if one.metadata and getattr(check, one.name) == one.default}
    return digest.of_value({name: value for name, value in asdict(check).items() if name not in silent})
