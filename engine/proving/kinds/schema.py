"""Replays the kind `schema`: what a step printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from engine.domain.gate import Facts, Json, Sample, SchemaCheck
from engine.gates import schema
from engine.proving.kinds.port import Answer, Kind, no_probe


class SchemaAnswer(Answer):
    """The JSON of the step's last line; without one it printed none."""

    output: Any = None


class Schema(Kind[SchemaCheck, SchemaAnswer]):
    """The claim is told."""

    answer = SchemaAnswer

    def measure(self, check: SchemaCheck, facts: Facts, answer: SchemaAnswer) -> Sample:
        """See `Kind`."""
        claims = {} if answer.output is None else {check.of: answer.output}
        return schema.measure(check, replace(facts, claims=claims), no_probe)

    def never(self, check: SchemaCheck, good: SchemaAnswer) -> Iterable[tuple[str, SchemaAnswer]]:  # noqa: ARG002 - port
        """A schema says of what type the whole is."""
        yield "no output", SchemaAnswer()
        yield "an output of another type", SchemaAnswer(output="~" if isinstance(good.output, (dict, list)) else {})

    def broken(self, check: SchemaCheck) -> Iterator[tuple[str, SchemaCheck]]:
        """A keyword is left out, a word of a list is, or a limit is off by one."""
        for what, other in _broken(dict(check.schema), ""):
            yield what, replace(check, schema=other)


def _broken(part: dict[str, Json], where: str) -> Iterator[tuple[str, dict[str, Json]]]:
    """This part of a schema with one thing wrong, and in words which."""
    for key, inner in part.items():
        place = f"{where}.{key}".lstrip(".")
        if key == "properties" and isinstance(inner, dict):
            for name, one in inner.items():
                for what, other in _broken(one, f"{place}.{name}") if isinstance(one, dict) else ():
                    yield what, {**part, key: {**inner, name: other}}
        else:
            yield f"{place}: left out", {name: one for name, one in part.items() if name != key}
            for what, changed in _instead(inner, place):
                yield what, {**part, key: changed}


def _instead(inner: Json, place: str) -> Iterator[tuple[str, Json]]:
    match inner:
        case bool():
            return
        case int() | float():
            yield from ((f"{place}: {inner + step}", inner + step) for step in (-1, 1))
        case list() if len(inner) > 1:
            for number, word in enumerate(inner):
                yield f"{place}: without {word}", [*inner[:number], *inner[number + 1 :]]
        case dict():
            yield from _broken(inner, place)
