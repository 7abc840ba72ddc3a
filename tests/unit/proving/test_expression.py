"""Conditions broken on purpose: what a token is, and what is changed of it."""

from __future__ import annotations

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.gate import VARIABLES
from engine.proving.expression import broken, renamed, tokens

PIECES = (
    "out",
    " < ",
    "==",
    "!=",
    "!",
    "&&",
    "||",
    "0.8",
    "12u",
    '"a \\" < b"',
    "'!'",
    "r'\\'",
    "// x < 1\n",
    "[0]",
    ".",
)


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_the_tokens_of_an_expression_are_all_of_it(expression: str) -> None:
    assert "".join(token.word for token in tokens(expression)) == expression


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("out < 80", ["out <= 80", "out < 79", "out < 81"]),
        ("out <= x", ["out < x"]),
        ("out > 0", ["out >= 0", "out > (-1)", "out > 1"]),
        ("x >= y", ["x > y"]),
        ("x == y", ["x != y"]),
        ("x != y", ["x == y"]),
        ("!has(out.a)", ["has(out.a)"]),
        ("x && y", ["x || y"]),
        ("x || y", ["x && y"]),
        ("x == true", ["x != true", "x == false"]),
        ('x == "a"', ['x != "a"', 'x == "a~"']),
        ("x < 0.8", ["x <= 0.8", "x < (-0.2)", "x < 1.8", "x < 0.7", "x < 0.9", "x < 0.792", "x < 0.808"]),
    ],
)
def test_one_thing_is_changed_at_a_time(expression: str, expected: list[str]) -> None:
    assert list(broken(expression)) == expected


@pytest.mark.parametrize("expression", ['x == "1 < 2 && !y"', "x.matches(r'^<=!$')"])
def test_what_looks_like_an_operator_within_a_text_is_text(expression: str) -> None:
    assert all("~" in mutant or "!=" in mutant.replace(expression[5:], "") for mutant in broken(expression))


def test_zero_is_changed_by_a_little_too() -> None:
    assert "x == 0.01" in set(broken("x == 0.0"))


@pytest.mark.parametrize(
    "expression",
    [
        "result[0] < 0.8",
        "status == 200 && json.ok == true",
        'out.contains("active")',
        "size(result) == 1",
        "-1 < 5 - 3",
    ],
)
def test_what_is_broken_still_compiles(expression: str) -> None:
    for mutant in broken(expression):
        cel.compile(mutant)


def test_only_variables_are_renamed() -> None:
    told = renamed("status == 200 && json.status < size(body)", VARIABLES["http"], lambda name: f"out.{name}")

    assert told == "out.status == 200 && out.json.status < size(out.body)"
