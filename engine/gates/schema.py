"""Gate kind `schema`: a step's own output fits a JSON Schema. A claim, so never independent. Called through `kinds()`.

A strict part of the standard, each keyword with its standard meaning; one that we do not know is an error and not
ignored, as the standard would have it: a slip of the pen must not be a check that asks for nothing.
https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from engine.domain.gate import Check, Facts, Json, Sample, SchemaCheck
from engine.domain.ports import Probe
from engine.domain.states import Verdict
from engine.gates import evidence
from engine.gates.lines import matching

MAX_DEPTH = 20
MAX_FAULTS = 5
MAX_NODES = 10_000


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:  # noqa: ARG001 - the port has it
    """Validate a step's output. None at all is INCONCLUSIVE, one that does not fit FAILED."""
    if not isinstance(check, SchemaCheck):
        return Sample(verdict=Verdict.ERROR, why="not a schema check")
    if check.of not in facts.claims:
        why = f"step {check.of} printed no output"
        return Sample(verdict=Verdict.INCONCLUSIVE, why=why, no_data=True)
    claim = facts.claims[check.of]
    seen: Json = {"out": evidence.bounded(claim)}
    try:
        found = validate(dict(check.schema), claim)
    except ValueError as error:
        return Sample(verdict=Verdict.ERROR, why=str(error), seen=seen)
    if found:
        return Sample(verdict=Verdict.FAILED, why=f"{check.of} printed {'; '.join(found)}", seen=seen)
    return Sample(verdict=Verdict.HELD, why=f"the output of {check.of} fits", seen=seen)


def validate(schema: Json, value: Json) -> tuple[str, ...]:
    """The first faults of a value, each for a person; raises ValueError for a wrong schema, or a value too large."""
    return tuple(itertools.islice(_At(value, "out", 0, itertools.count()).faults(schema), MAX_FAULTS))


@dataclass(frozen=True, slots=True)
class _At:
    """A value that is validated, its place within the whole, and how many were looked at before."""

    value: Json
    where: str
    depth: int
    nodes: Iterator[int]

    def faults(self, schema: Json) -> Iterator[str]:
        """What is wrong with it."""
        if self.depth > MAX_DEPTH or next(self.nodes) > MAX_NODES:
            raise ValueError("what was printed is too large to validate")
        if not isinstance(schema, dict) or not schema:
            raise ValueError("a schema is an object with at least one keyword")
        for word, wanted in schema.items():
            if word not in KEYWORDS:
                raise ValueError(f"{word} is no keyword of a schema that is known here")
            yield from KEYWORDS[word](self, wanted, schema)

    def inner(self, value: Json, name: str, schema: Json) -> Iterator[str]:
        """What is wrong with a value within it."""
        return _At(value, self.where + name, self.depth + 1, self.nodes).faults(schema)


Keyword = Callable[[_At, Json, Mapping[str, Json]], Iterator[str]]
""" (at, what the schema says after the keyword, the whole schema) -> faults. Raises ValueError for a wrong schema. """


_TYPES: Mapping[str, Callable[[Json], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: _number(v) is not None,
    "integer": lambda v: (number := _number(v)) is not None and number == math.floor(number),
}


def _number(value: Json) -> int | float | None:
    """The value, if it is a finite number: true is none in JSON, though it is one in Python."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def same(one: Json, other: Json) -> bool:
    """Equality of JSON: true is not 1, and 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return one == other


def _type(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
    names = wanted if isinstance(wanted, list) else [wanted]
    if not all(isinstance(name, str) and name in _TYPES for name in names):
        raise ValueError(f"{wanted} is no type of JSON")
    if not any(_TYPES[str(name)](at.value) for name in names):
        yield f"{at.where}: {evidence.brief(at.value)} is no {' or '.join(map(str, names))}"


def _enum(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
    if not isinstance(wanted, list):
        raise ValueError("enum is a list")
    if not any(same(at.value, one) for one in wanted):
        yield f"{at.where}: {evidence.brief(at.value)} is none of {evidence.brief(wanted)}"


def _const(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
    if not same(at.value, wanted):
        yield f"{at.where}: {evidence.brief(at.value)} is not {evidence.brief(wanted)}"


def _required(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
    if not isinstance(wanted, list):
        raise ValueError("required is a list")
    if isinstance(at.value, dict):
        yield from (f"{at.where} lacks {name}" for name in wanted if name not in at.value)


def _properties(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
    if not isinstance(wanted, dict):
        raise ValueError("properties is an object")
    if isinstance(at.value, dict):
        for name, inner in wanted.items():
            if name in at.value:
                yield from at.inner(at.value[name], f".{name}", inner)


def _additional(at: _At, wanted: Json, schema: Mapping[str, Json]) -> Iterator[str]:
    known = schema.get("properties", {})
    if not isinstance(at.value, dict) or not isinstance(known, dict):
        return
    for name in sorted(at.value.keys() - known.keys()):
        if wanted is False:
            yield f"{at.where} has {evidence.brief(name)}, which nobody asked for"
        elif wanted is not True:
            yield from at.inner(at.value[name], f".{name[:40]}", wanted)


def _items(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
    if isinstance(at.value, list):
        for number, item in enumerate(at.value):
            yield from at.inner(item, f"[{number}]", wanted)


def _pattern(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
    if not isinstance(wanted, str):
        raise ValueError("pattern is a text")
    if isinstance(at.value, str) and not matching(wanted, [at.value]):
        yield f"{at.where}: {evidence.brief(at.value)} does not match {wanted}"


def _any_of(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
    if not isinstance(wanted, list) or not wanted:
        raise ValueError("anyOf is a list of schemas")
    if all(any(True for _ in at.inner(at.value, "", inner)) for inner in wanted):
        yield f"{at.where}: {evidence.brief(at.value)} fits none of {len(wanted)} schemas"


def _bound(measured: Callable[[Json], int | float | None], fits: Callable[[float, float], bool], what: str) -> Keyword:
    """A keyword that compares a number, or a size, with a number."""

    def keyword(at: _At, wanted: Json, _schema: Mapping[str, Json]) -> Iterator[str]:
        limit, number = _number(wanted), measured(at.value)
        if limit is None:
            raise ValueError(f"{wanted} is no number")
        if number is not None and not fits(number, limit):
            yield f"{at.where}: {number} is {what} {limit}"

    return keyword


def _size_of(kind: type[str] | type[list[Json]]) -> Callable[[Json], int | None]:
    return lambda value: len(value) if isinstance(value, kind) else None


KEYWORDS: Mapping[str, Keyword] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "pattern": _pattern,
    "anyOf": _any_of,
    "minimum": _bound(_number, lambda number, limit: number >= limit, "less than"),
    "maximum": _bound(_number, lambda number, limit: number <= limit, "more than"),
    "exclusiveMinimum": _bound(_number, lambda number, limit: number > limit, "not more than"),
    "exclusiveMaximum": _bound(_number, lambda number, limit: number < limit, "not less than"),
    "minLength": _bound(_size_of(str), lambda number, limit: number >= limit, "characters, fewer than"),
    "maxLength": _bound(_size_of(str), lambda number, limit: number <= limit, "characters, more than"),
    "minItems": _bound(_size_of(list), lambda number, limit: number >= limit, "items, fewer than"),
    "maxItems": _bound(_size_of(list), lambda number, limit: number <= limit, "items, more than"),
}
""" What a schema may say; the format of runbooks knows exactly these. """
