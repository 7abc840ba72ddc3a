"""Reading YAML: the line of every place, and what is refused before anybody believes it."""

from __future__ import annotations

import pytest

from engine.runbooks import positions
from engine.runbooks.positions import MAX_BYTES, MAX_DEPTH, QUOTE


def refused(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.what) for problem in positions.read(text).problems]


def test_every_place_has_its_line_and_column() -> None:
    document = positions.read("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n")

    assert document.value == {"a": 1, "b": ["x", {"c": 2, "d": 3}]}
    places = [("a",), ("b",), ("b", 0), ("b", 1, "c"), ("b", 1, "d"), ("b", 7, "nowhere"), ()]
    spots = [(1, 1), (2, 1), (3, 5), (4, 6), (5, 6), (2, 1), (1, 1)]
    assert [document.spot(place) for place in places] == spots


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key a is there twice"),
        ("on: 1\n'on': 2\n", 2, "the key on is there twice"),
        ("a: 1\nON: 2\n", 2, "the key ON is not text to YAML"),
        ("a: 1\noff: 2\n", 2, "the key off is not text to YAML"),
        ("a:\n  yes: 2\n", 2, "the key yes is not text to YAML"),
        ("a:\n  7: 2\n", 2, "the key 7 is not text to YAML"),
        ("? [a]\n: 1\n", 1, "the key that is no text is not text to YAML"),
        ("<<: {a: 1}\n", 1, "the key << is not text to YAML"),
        ("a: &x 1\n", 1, "anchors are not allowed"),
        ("a: 1\nb: *x\n", 2, "not to be read: aliases are not allowed"),
        ("a: !!python/name:os.system\n", 1, "the tag tag:yaml.org,2002:python/name:os.system is not allowed"),
        (
            "a: 1\n---\nb: 2\n",
            2,
            "not to be read: expected a single document in the stream, but found another document",
        ),
        ("a: 1\nb: [\n", 3, "not to be read: while parsing a flow node, "),
        ("a: 1\n\tb: 2\n", 2, "not to be read: "),
        ("a: \x01\n", 1, "not to be read: special characters are not allowed"),
        ("", 1, "the file is empty"),
        ("# only this\n", 1, "the file is empty"),
        ("a: " + "9" * 5000 + "\n", 1, "9999999999999999999999999999999999999999 is no number"),
        ("a" * (MAX_BYTES + 1), 1, "more than 64 KiB"),
        ("[" * (MAX_DEPTH + 2), 1, f"not to be read: nested more than {MAX_DEPTH} deep"),
        ("{" * 60_000, 1, "not to be read: "),
    ],
)
def test_what_is_refused_and_where(text: str, line: int, what: str) -> None:
    found = refused(text)

    assert found[0][0] == line
    assert found[0][1].startswith(what)


def test_on_is_a_key_as_it_is_written() -> None:
    document = positions.read("a: [{on: target, x: on}]\n")

    assert document.problems == []
    assert document.value == {"a": [{"on": "target", "x": True}]}


def test_a_condition_that_wants_quotes_is_told_so() -> None:
    (problem,) = positions.read("a: 1\nchecks: [{parse: lines, expect: out == []}]\n").problems

    assert (problem.line, problem.mend) == (2, QUOTE)


def test_a_bomb_of_aliases_is_refused_without_unfolding_it() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]

    assert (2, "not to be read: aliases are not allowed") in refused("\n".join(levels))


def test_dates_and_sexagesimals_do_not_surprise() -> None:
    """YAML 1.1 makes a date of 2024-01-01; here it stays text. 1:30 it makes a number, which no duration accepts."""
    assert positions.read("a: 2024-01-01\nb: 2024-99-99\nc: 1:30\n").value == {
        "a": "2024-01-01",
        "b": "2024-99-99",
        "c": 90,
    }
