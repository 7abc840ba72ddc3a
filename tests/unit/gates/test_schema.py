"""Gate kind `schema`: JSON Schema as the standard means it, and nothing that is not known is passed over."""

from __future__ import annotations

import time

import pytest

from engine.domain.gate import INDEPENDENT, OFF_HOST, DigestCheck, Json, SchemaCheck
from engine.domain.states import Verdict
from engine.gates import schema
from engine.gates.schema import KEYWORDS, validate
from tests.unit.gates.fakes import NoProbe, facts

SCHEMA: dict[str, Json] = {
    "type": "object",
    "required": ["cause", "used"],
    "additionalProperties": False,
    "properties": {
        "cause": {"enum": ["log_growth", "unknown"]},
        "used": {"type": "integer", "minimum": 0, "maximum": 100},
        "paths": {"type": "array", "maxItems": 3, "items": {"type": "string", "pattern": "^/", "maxLength": 20}},
    },
}
CHECK = SchemaCheck(id="form", of="diagnose", schema=SCHEMA)


def verdict(claim: Json) -> Verdict:
    return schema.measure(CHECK, facts(claims={"diagnose": claim}), NoProbe()).verdict


def test_an_output_that_fits_holds() -> None:
    assert verdict({"cause": "log_growth", "used": 93, "paths": ["/srv/log"]}) is Verdict.HELD
    assert verdict({"cause": "unknown", "used": 0}) is Verdict.HELD


@pytest.mark.parametrize(
    "claim",
    [
        None,
        [],
        "log_growth",
        {},
        {"cause": "log_growth"},
        {"cause": "other", "used": 1},
        {"cause": "log_growth", "used": True},
        {"cause": "log_growth", "used": 1.5},
        {"cause": "log_growth", "used": "93"},
        {"cause": "log_growth", "used": 101},
        {"cause": "log_growth", "used": float("nan")},
        {"cause": "log_growth", "used": 1, "extra": 1},
        {"cause": "log_growth", "used": 1, "paths": ["srv"]},
        {"cause": "log_growth", "used": 1, "paths": ["/"] * 4},
        {"cause": "log_growth", "used": 1, "paths": ["/" + "x" * 20]},
        {"cause": "log_growth", "used": 1, "paths": "/srv"},
    ],
)
def test_an_output_that_does_not_fit_fails(claim: Json) -> None:
    assert verdict(claim) is Verdict.FAILED


def test_the_reason_says_where_and_what() -> None:
    sample = schema.measure(CHECK, facts(claims={"diagnose": {"cause": "x", "used": 101, "more": 1}}), NoProbe())

    for said in ("out.cause", "out.used: 101 is more than 100", 'out has "more", which nobody asked for'):
        assert said in sample.why


def test_no_output_is_no_data() -> None:
    sample = schema.measure(CHECK, facts(), NoProbe())

    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)


# word, its argument, what fits, what does not: as in the standard, also for values of another type, which fit
MEANING: list[tuple[str, Json, list[Json], list[Json]]] = [
    ("type", "integer", [1, 1.0, -3, 10**30], [1.5, "1", True, None]),
    ("type", "number", [1, 1.5], ["1", True]),
    ("type", ["string", "null"], ["", None], [0, False]),
    ("const", 1, [1, 1.0], [True, "1", 2]),
    ("const", [0, {"a": False}], [[0, {"a": False}]], [[False, {"a": False}], [0, {"a": 0}], [0]]),
    ("enum", [0, None], [0, 0.0, None], [False, "", []]),
    ("required", ["a"], [{"a": None}, [], "x"], [{}, {"b": 1}]),
    ("minimum", 2, [2, 2.5, "1", True], [1, 1.9]),
    ("maximum", 2, [2, -5, None], [3, 2.1]),
    ("exclusiveMinimum", 2, [2.1], [2, 1]),
    ("exclusiveMaximum", 2, [1.9], [2, 3]),
    ("minLength", 2, ["ab", 1], ["a", ""]),
    ("maxLength", 2, ["ab", [1, 2, 3]], ["abc"]),
    ("minItems", 1, [[1], "", {}], [[]]),
    ("maxItems", 1, [[1], []], [[1, 2]]),
    ("pattern", "^a+$", ["aa", 5, None], ["ab", "", "aa\n"]),
    ("items", {"type": "string"}, [[], ["a"], "x"], [["a", 1]]),
    ("properties", {"a": {"type": "string"}}, [{}, {"a": "x"}, {"b": 1}, 3], [{"a": 1}]),
    ("additionalProperties", {"type": "string"}, [{}, {"a": "x"}], [{"a": 1}]),
    ("anyOf", [{"type": "string"}, {"minimum": 5}], ["x", 5, True], [4]),
]


@pytest.mark.parametrize(("word", "wanted", "good", "bad"), MEANING)
def test_every_keyword_means_what_the_standard_says(word: str, wanted: Json, good: list[Json], bad: list[Json]) -> None:
    assert [value for value in good if validate({word: wanted}, value)] == []
    assert [value for value in bad if not validate({word: wanted}, value)] == []


def test_no_keyword_is_left_out_above() -> None:
    assert {word for word, *_ in MEANING} == set(KEYWORDS)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"typ": "string"},
        {"$ref": "#/x"},
        {"format": "email"},
        {"type": "int"},
        {"minimum": "2"},
        {"maxLength": True},
        {"pattern": "("},
        {"enum": "x"},
        {"items": {}},
        {"properties": {"a": True}},
        {"anyOf": []},
    ],
)
def test_a_schema_that_is_not_understood_is_an_error_and_not_passed_over(wrong: dict[str, Json]) -> None:
    check = SchemaCheck(id="form", of="diagnose", schema=wrong)
    values: list[Json] = ["x", 1, [1], {"a": 1}]
    found = {schema.measure(check, facts(claims={"diagnose": value}), NoProbe()).verdict for value in values}

    assert Verdict.ERROR in found
    if set(wrong) - {"pattern", "items", "properties"}:
        assert found == {Verdict.ERROR}


@pytest.mark.parametrize("claim", [list(range(20_000)), ["x" * 5000]])
def test_an_output_that_is_too_large_is_an_error(claim: Json) -> None:
    check = SchemaCheck(id="form", of="diagnose", schema={"items": {"minimum": 0, "pattern": "x"}})

    assert schema.measure(check, facts(claims={"diagnose": claim}), NoProbe()).verdict is Verdict.ERROR


def test_a_hostile_text_cannot_make_a_pattern_compute_for_long() -> None:
    begun = time.monotonic()

    assert validate({"pattern": "^(a+)+$"}, "a" * 4000 + "!")
    assert time.monotonic() - begun < 2


def test_it_is_a_claim_and_never_independent() -> None:
    assert SchemaCheck not in {*INDEPENDENT, *OFF_HOST}
    assert schema.measure(DigestCheck(id="d", of="a", equals="b"), facts(), NoProbe()).verdict is Verdict.ERROR
