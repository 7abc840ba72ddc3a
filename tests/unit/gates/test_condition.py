"""Conditions: only the boolean true holds, and nothing can compute for long."""

from __future__ import annotations

import pytest

from engine.domain.gate import Json
from engine.domain.states import Verdict
from engine.gates import condition
from engine.gates.condition import judge


def verdict(expression: str, **variables: Json) -> Verdict:
    return judge(expression, variables, None).verdict


def test_true_holds_and_false_fails() -> None:
    assert verdict("out < 80", out=5) is Verdict.HELD
    assert verdict("out < 80", out=93.0) is Verdict.FAILED


@pytest.mark.parametrize("out", ["yes", "true", 1, 1.0, [True], {"a": 1}, None])
def test_what_is_merely_truthy_is_an_error(out: Json) -> None:
    assert verdict("out", out=out) is Verdict.ERROR


@pytest.mark.parametrize(
    "expression",
    [
        "out.nothing == 1",  # no such field
        "result[0] < 1.0",  # no such element
        "missing < 1",  # no such variable
        "shout(out)",  # no such function
        "1 / 0 == 1",
        '"a" < 1',
        "out <",
        "",
        'name.matches("(")',
    ],
)
def test_an_expression_that_breaks_is_an_error_never_a_pass(expression: str) -> None:
    assert verdict(expression, out={}, result=[], name="x") is Verdict.ERROR


def test_nan_does_not_hold_either_way() -> None:
    assert verdict("out < 1.0", out=float("nan")) is Verdict.ERROR
    assert verdict("out >= 1.0", out=float("nan")) is Verdict.ERROR


def test_three_nested_loops_are_refused_before_they_run() -> None:
    """The engine has no budget of steps: a cube over untrusted values would block a worker."""
    cube = "out.all(a, out.all(b, out.all(c, a + b + c >= 0)))"

    assert "at most 2" in judge(cube, {"out": list(range(100))}, None).why


def test_loops_cannot_be_hidden_behind_a_comment() -> None:
    hidden = "out.all( // x\n a, out.all( // x\n b, out.all( // x\n c, true)))"

    assert verdict(hidden, out=[1]) is Verdict.ERROR


@pytest.mark.parametrize(
    "value",
    [
        list(range(condition.MAX_ITEMS + 1)),
        "x" * (condition.MAX_CHARACTERS + 1),
        [list(range(900)) for _ in range(20)],
        {"x" * (condition.MAX_CHARACTERS + 1): 1},
        2**63,
    ],
    ids=["items", "text", "nodes", "keys", "integer"],
)
def test_values_that_are_too_large_are_refused(value: Json) -> None:
    assert verdict("true || out == out", out=value) is Verdict.ERROR


def test_values_that_are_nested_too_deeply_are_refused() -> None:
    deep: Json = 1
    for _ in range(condition.MAX_DEPTH + 1):
        deep = [deep]

    assert verdict("true", out=deep) is Verdict.ERROR


def test_the_reason_names_the_condition_and_what_was_measured() -> None:
    assert judge("out < 80", {"out": 93, "code": 0}, None).why == "not out < 80: out = 93"


def test_a_missing_field_is_explained() -> None:
    assert judge("out.ok == true", {"out": {}}, None).why == "out.ok == true: there is no 'ok' in what was measured"
