"""Conditions: CEL over what was measured. Called by each kind that has an `expect`; only the boolean true holds.

The CEL engine raises on every error and has no budget of steps, so both expression and values are bounded here.
https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Mapping

import cel

from engine.domain.gate import LOOP, MAX_LOOPS, Json, Sample
from engine.domain.states import Verdict
from engine.gates.evidence import brief

PANIC = "PanicException"
""" What a panic of a Rust extension looks like: no Exception, so nobody else would catch it. https://pyo3.rs """
MAX_EXPRESSION = 500
MAX_ITEMS = 1000
MAX_NODES = 10_000
MAX_DEPTH = 20
MAX_CHARACTERS = 256 * 1024
MAX_INTEGER = 2**63 - 1


def judge(expression: str, variables: Mapping[str, Json], seen: Json) -> Sample:
    """Evaluate `expression`: true is HELD, false is FAILED, everything else (also a value that is not bool) ERROR."""
    try:
        holds = evaluate(expression, variables)
    except ValueError as error:
        return Sample(verdict=Verdict.ERROR, why=f"{expression}: {error}", seen=seen)
    measured = ", ".join(f"{name} = {brief(value)}" for name, value in variables.items() if name in expression)
    if holds:
        return Sample(verdict=Verdict.HELD, why=f"{expression}, with {measured}", seen=seen)
    return Sample(verdict=Verdict.FAILED, why=f"not {expression}: {measured}", seen=seen)


def evaluate(expression: str, variables: Mapping[str, Json]) -> bool:
    """The condition's answer; raises ValueError with one line for a person when it has none."""
    if len(expression) > MAX_EXPRESSION:
        raise ValueError(f"a condition has at most {MAX_EXPRESSION} characters")
    if len(LOOP.findall(expression)) > MAX_LOOPS:
        raise ValueError(f"a condition has at most {MAX_LOOPS} of all, exists, map, filter")
    _bound(variables)
    try:
        answer = cel.evaluate(expression, dict(variables))
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError) as error:
        raise ValueError(_one_line(error)) from None
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise ValueError("the CEL engine gave up on this condition") from None
    if answer is True or answer is False:
        return bool(answer)
    raise ValueError(f"gave {type(answer).__name__}, not true or false")


def _one_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error} in what was measured"
    return str(error).split(". CEL does not", maxsplit=1)[0].splitlines()[0][:200]


def _bound(variables: Mapping[str, Json]) -> None:
    """Refuse values on which a condition could compute for long, or that CEL would not take exactly."""
    nodes = characters = 0
    rest: list[tuple[Json, int]] = [(value, 0) for value in variables.values()]
    while rest:
        value, depth = rest.pop()
        nodes += 1
        inner: list[Json] = []
        match value:
            case str():
                characters += len(value)
            case list():
                inner = value
            case dict():
                characters += sum(map(len, value))
                inner = list(value.values())
            case int() if abs(value) > MAX_INTEGER:
                raise ValueError("a number is too large to compare exactly")
        if len(inner) > MAX_ITEMS or nodes > MAX_NODES or depth > MAX_DEPTH or characters > MAX_CHARACTERS:
            raise ValueError("what was measured is too large to judge")
        rest += [(item, depth + 1) for item in inner]
