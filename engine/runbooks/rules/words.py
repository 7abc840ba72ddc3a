"""Rules on inputs, placeholders, conditions and times: L008, L010, L014, L018."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import cel

from engine.domain import journey, template
from engine.domain.errors import BadInput
from engine.domain.gate import (
    INDEPENDENT,
    LOOP,
    MAX_LOOPS,
    VARIABLES,
    Check,
    HttpCheck,
    Json,
    LogCheck,
    PatternCheck,
    PolicyCheck,
    PromqlCheck,
    QuorumCheck,
    SchemaCheck,
    SqlCheck,
)
from engine.domain.runbook import ScriptStep
from engine.domain.within import asked, commands
from engine.runbooks.book import Book, Finding
from engine.runbooks.positions import Place
from engine.runbooks.rule import edit, edits, rule

_BOUND_NAME = re.compile(LOOP.pattern + r"\s*\(\s*([A-Za-z_]\w*)\s*,")
_FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "has", "type", "dyn"}
    | {"int", "uint", "double", "string", "bytes", "duration", "timestamp"}
)
_ESCAPED_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_OPTIONS = ("-", "-a", "-A", "-1", "--", "-aa", "--a", "--all", "-rf", "--help", "-o=a", "--a=1", "-a-a", "-.", "-/")
EVERYTHING = "matches everything"
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")


@rule(
    "L010",
    bad=edit("", "'^[a-z][a-z0-9-]{0,30}$'", "'[a-z].*'"),
    good=edit("", "pattern: '^[a-z][a-z0-9-]{0,30}$'", "enum: [worker-1, worker-2]"),
)
def inputs_are_bounded(book: Book) -> Iterator[Finding]:
    """Whoever can raise an alert chooses its labels: each value is one of an enum, or matches a pattern with
    both anchors and a largest length (so without *, +, {n,}) and does not begin with a hyphen; the machine compares
    the whole value."""
    for one in book.runbook.inputs:
        place: Place = ("inputs", one.name)
        if one.enum and one.pattern is None:
            continue
        if one.pattern is None or one.enum:
            what = f"input {one.name} has {'both an enum and a pattern' if one.enum else 'no bounds'}"
            yield Finding(place, what, "give it an `enum` or an anchored `pattern`")
            continue
        fault = pattern_fault(one.pattern)
        if fault:
            yield Finding(
                (*place, "pattern"), f"the pattern of input {one.name} {fault}", "write such as ^[a-z][a-z0-9-]{0,30}$"
            )


def pattern_fault(pattern: str) -> str | None:
    """What is wrong with the pattern of an input, if anything."""
    try:
        re.compile(pattern)
    except re.error as error:
        return f"is no regular expression: {error}"
    bare = _ESCAPED_OR_CLASS.sub("x", pattern)
    if not (bare.startswith("^") and bare.endswith("$")):
        return "is not anchored"
    if "|" in bare:
        return "has alternatives; use an enum"
    if _UNBOUNDED.search(bare):
        return "has no largest length"
    if any(re.fullmatch(pattern, word) for word in _OPTIONS):
        return "lets a value begin with a hyphen, which commands take for an option"
    return None


@rule(
    "L014",
    bad=edit("diagnose", "inputs.unit", "inputs.untie"),
    good=edit("diagnose", "inputs.unit", "target.name"),
)
def placeholders_are_known(book: Book) -> Iterator[Finding]:
    """`{{ inputs.NAME }}` and `{{ target.host }}` (in arguments also `target.name` and `target.port`) stand for
    known names; in a query, where text would be syntax, they stand within quotes."""
    inputs = {rule.name: "" for rule in book.runbook.inputs}
    for at, step in book.scripts():
        target = {"name": "", "host": "", "port": ""} if step.target else {}
        values = {"inputs": inputs, "target": target}
        yield from _fill_all(("steps", at, "args"), step.script.args, values)
        if step.rollback:
            yield from _fill_all(("steps", at, "rollback", "args"), step.rollback.script.args, values)
    for place, _, check in book.checks():
        values = {"inputs": inputs, "target": {"host": ""}}
        for argv in commands(check):
            yield from _fill_all((*place, "run"), argv, values)
        match check:
            case HttpCheck():
                yield from _fill_all((*place, "path"), (check.path,), values)
            case PromqlCheck():
                yield from _fill_all((*place, "query"), (check.query,), values)
                yield from _in_quotes((*place, "query"), check.query)
            case SqlCheck():
                yield from _fill_all((*place, "query"), (check.query,), values)
                yield from _not_in_quotes((*place, "query"), check.query)


def _fill_all(place: Place, texts: tuple[str, ...], values: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    for text in texts:
        try:
            template.fill(text, values)
        except BadInput as error:
            yield Finding(place, str(error), error.remedy)


def _in_quotes(place: Place, query: str) -> Iterator[Finding]:
    outside = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', '""', query)
    if "{{" in outside:
        yield Finding(place, "a placeholder of the query stands outside of quotes", 'write such as {env="{{ ... }}"}')
    if "`" in query:
        yield Finding(place, "the query has backquotes, in which nothing can be escaped", "use double quotes")


def _not_in_quotes(place: Place, query: str) -> Iterator[Finding]:
    if any("{{" in text for text in re.findall(r"'(?:''|[^'])*'|\"[^\"]*\"|\$\$.*?\$\$", query, re.DOTALL)):
        yield Finding(place, "a placeholder of the query stands within quotes", "leave them out: it is a value already")


@rule(
    "L018",
    bad=edit("healthy", "status == 200", "status = 200"),
    good=edit("healthy", "status == 200", "status == 200 && ms < 500"),
)
def conditions_compile(book: Book) -> Iterator[Finding]:
    """A condition is CEL, names only what its kind of check measures and calls only what CEL has, and loops at
    most twice; a pattern is a regular expression and does not match everything. A mistake would be found in the night
    otherwise, as a gate that never opens."""
    for place, _, check in book.checks():
        for key, condition, known in _conditions(check):
            fault = _condition_fault(condition, known)
            if fault:
                yield Finding(
                    (*place, *key),
                    f"{condition}: {fault}",
                    "mend the condition; the language is CEL, see https://cel.dev",
                )

        for where, pattern in _patterns(check):
            fault = _regex_fault(pattern)
            if fault and not (isinstance(check, SchemaCheck) and fault == EVERYTHING):
                mend = "mend the pattern; the language is RE2's, without look-around and back references"
                yield Finding((*place, *where), f"{pattern}: {fault}", mend)


def _patterns(check: Check) -> Iterator[tuple[Place, str]]:
    """Every regular expression of a check, with its place within."""
    if isinstance(check, LogCheck):
        yield from ((("present", number), pattern) for number, pattern in enumerate(check.present))
        yield from ((("absent", number), pattern) for number, pattern in enumerate(check.absent))
    elif isinstance(check, SchemaCheck):
        yield from _patterns_within(("schema",), dict(check.schema))


def _patterns_within(place: Place, schema: Json) -> Iterator[tuple[Place, str]]:
    inner = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for key, value in inner:
        if key == "pattern" and isinstance(value, str):
            yield (*place, key), value
        else:
            yield from _patterns_within((*place, key), value)


def _regex_fault(pattern: str) -> str | None:
    try:
        everything = cel.evaluate("''.matches(pattern)", {"pattern": pattern})
    except (ValueError, TypeError, RuntimeError):
        return "is no regular expression"
    return EVERYTHING if everything is not False else None


def _conditions(check: Check) -> Iterator[tuple[Place, str, frozenset[str]]]:
    """Every condition of a check: where it stands within, its text, and what it may name."""
    if isinstance(check, PatternCheck):
        for one in check.known:
            yield ("causes", one.cause, "expect"), one.expect, frozenset(fact.name for fact in one.facts)
    elif isinstance(check, PolicyCheck):
        for number, rule in enumerate(check.rules):
            yield ("rules", number, "expect"), rule.expect, VARIABLES[check.type]
    for key in ("expect", "unless"):
        condition = getattr(check, key, None)
        if condition is not None:
            yield (key,), condition, VARIABLES[check.type]


def _condition_fault(condition: str, known: frozenset[str]) -> str | None:
    try:
        program = cel.compile(condition)
    except ValueError as error:
        return str(error).splitlines()[0].removeprefix(f"Failed to parse expression '{condition}': ")[:160]
    loops = LOOP.findall(condition)
    if len(loops) > MAX_LOOPS:
        return f"more than {MAX_LOOPS} of all, exists, map, filter"
    unknown = set(program.variables()) - known - set(_BOUND_NAME.findall(condition))
    if unknown:
        return f"{', '.join(sorted(unknown))} is not measured; there is {', '.join(sorted(known))}"
    strange = {name for name in program.functions() if name.isidentifier()} - _FUNCTIONS
    if strange:
        return f"there is no function {', '.join(sorted(strange))}"
    if not program.variables():
        return "looks at nothing that was measured"
    return None


@rule(
    "L008",
    bad=edit("", "deadline: 60m", "deadline: 20m"),
    good=edits(("", "deadline: 60m", "deadline: 30m"), ("production", "expires: 30m", "expires: 5m")),
)
def times_fit_the_deadline(book: Book) -> Iterator[Finding]:
    """All that may happen, each as slow as allowed (rehearsals, samples, waiting for approval), fits within the
    deadline: otherwise a run would be cut off while everything is as declared."""
    needed = 0.0
    for leg in journey.plan(book.runbook).line:
        if leg.kind is journey.LegKind.ATTEMPT and isinstance(leg.step, ScriptStep):
            needed += leg.step.timeout_s
            if leg.step.approval and leg.role is journey.Role.FORWARD:
                needed += leg.step.approval.expires_s
        needed += sum(_check_time(check) for check in (*leg.checks, *leg.shadow))
    if needed > book.runbook.deadline_s:
        what = f"all timeouts and waits together take {needed / 60:.0f} min, the deadline is shorter"
        yield Finding(("deadline",), what, f"raise it to at least {needed // 60 + 1:.0f}m, or shorten the others")


def _check_time(check: Check) -> float:
    """The longest that measuring it may take."""
    if isinstance(check, QuorumCheck):
        return sum(map(_check_time, check.checks))
    sampling = getattr(check, "sampling", None)
    if sampling is None:
        return 0
    facts = max((len(one.facts) for one in check.known), default=1) if isinstance(check, PatternCheck) else 1
    once: float = facts * check.timeout_s + sum(map(_check_time, asked(check))) if isinstance(check, INDEPENDENT) else 0
    waits: float = getattr(check, "for_s", 0) + (sampling.count - 1) * sampling.every_s
    return float(sampling.count * once + waits)
