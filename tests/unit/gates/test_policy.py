"""Gate kind `policy`: denied unless every rule says exactly true."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.domain import archive
from engine.domain.gate import INDEPENDENT, OFF_HOST, DigestCheck, Json, PolicyCheck, PolicyRule, Sample
from engine.domain.states import Verdict
from engine.gates import policy
from tests.unit.gates.fakes import NoProbe, facts

GROWS = PolicyRule(id="grows-at-most-twice", expect="doc.after <= 2 * doc.before")
KEEPS = PolicyRule(
    id="destroys-nothing",
    expect='size(doc.changes) > 0 && doc.changes.all(c, c.action in ["update", "create"])',
)
CHECK = PolicyCheck(id="policy", of="plan", rules=(GROWS, KEEPS))
IN_FILE = replace(CHECK, file="plan.json")
GOOD: dict[str, Json] = {"before": 10, "after": 20, "changes": [{"action": "update"}]}


def of_output(document: Json, check: PolicyCheck = CHECK) -> Sample:
    return policy.measure(check, facts(claims={"plan": document}), NoProbe())


def of_file(content: bytes) -> Sample:
    known = replace(facts(), artefacts={"plan": archive.pack({"plan.json": content, "x": b""})})
    return policy.measure(IN_FILE, known, NoProbe())


def test_a_document_that_keeps_every_rule_holds() -> None:
    assert of_output(GOOD).verdict is Verdict.HELD
    assert of_file(json.dumps(GOOD).encode()).verdict is Verdict.HELD


def test_one_broken_rule_fails_and_is_named() -> None:
    sample = of_output({**GOOD, "after": 21})

    assert (sample.verdict, "grows-at-most-twice is broken" in sample.why) == (Verdict.FAILED, True)
    assert of_output({**GOOD, "changes": [{"action": "update"}, {"action": "delete"}]}).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "document",
    [
        {"before": 10, "after": 5},
        {"before": 10, "after": 5, "changes": [{}]},
        {"before": None, "after": 5, "changes": [{"action": "update"}]},
        {"before": "10", "after": 5, "changes": [{"action": "update"}]},
        [1],
        "plan",
        7,
    ],
)
def test_what_is_undefined_is_denied(document: Json) -> None:
    assert of_output(document).verdict is Verdict.ERROR


def test_a_rule_that_is_merely_truthy_is_denied() -> None:
    for rule in ("doc.after", '"yes"', "1", "doc.changes", "doc.nothing", "null"):
        check = replace(CHECK, rules=(GROWS, PolicyRule(id="r", expect=rule)))
        assert of_output(GOOD, check).verdict is Verdict.ERROR


def test_no_rules_allow_nothing() -> None:
    assert of_output(GOOD, replace(CHECK, rules=())).verdict is Verdict.ERROR


@pytest.mark.parametrize("document", [None, {}, [], ""])
def test_an_empty_document_is_no_data(document: Json) -> None:
    sample = of_output(document)

    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)
    assert of_file(json.dumps(document).encode()).no_data


def test_no_document_is_no_data() -> None:
    elsewhere = replace(facts(), artefacts={"plan": archive.pack({"other.json": b"{}"})})

    assert policy.measure(CHECK, facts(), NoProbe()).no_data
    assert policy.measure(IN_FILE, facts(claims={"plan": GOOD}), NoProbe()).no_data, "its output is not its artefact"
    assert policy.measure(IN_FILE, elsewhere, NoProbe()).no_data


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff\xfe",
        b'{"before": 10, "after": 999, "after": 5, "changes": [{"action": "update"}]}',
        b'{"before": NaN, "after": 5, "changes": [{"action": "update"}]}',
        b"[" * 100_000,
        b'"' + b"x" * policy.MAX_DOCUMENT + b'"',
        json.dumps({**GOOD, "pad": list(range(2000))}).encode(),
    ],
    ids=["broken", "no UTF-8", "a key twice", "NaN", "deep", "large", "many items"],
)
def test_a_file_that_cannot_be_judged_is_an_error(content: bytes) -> None:
    assert of_file(content).verdict is Verdict.ERROR


def test_an_archive_that_is_none_is_an_error() -> None:
    known = replace(facts(), artefacts={"plan": b"no archive"})

    assert policy.measure(IN_FILE, known, NoProbe()).verdict is Verdict.ERROR


def test_it_is_never_independent() -> None:
    assert PolicyCheck not in {*INDEPENDENT, *OFF_HOST}
    assert policy.measure(DigestCheck(id="d", of="a", equals="b"), facts(), NoProbe()).verdict is Verdict.ERROR
