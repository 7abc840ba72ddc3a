"""Gate kinds `expr` and `digest`: a claim is judged as a claim and can never pass for a digest of ours."""

from __future__ import annotations

import pytest

from engine.domain.gate import INDEPENDENT, OFF_HOST, DigestCheck, ExprCheck, Json
from engine.domain.states import Verdict
from engine.gates import digest, expr
from tests.unit.gates.fakes import NoProbe, facts

SAME = DigestCheck(id="same", of="production", equals="staging")
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
CAUSE = ExprCheck(id="cause", of="diagnose", expect='out.cause == "log_growth"', unless='out.cause == "unknown"')


def test_equal_digests_hold() -> None:
    sample = digest.measure(SAME, facts(digests={"production": A, "staging": A}), NoProbe())

    assert (sample.verdict, sample.why) == (Verdict.HELD, "production applies exactly what staging applied")


def test_different_digests_fail() -> None:
    sample = digest.measure(SAME, facts(digests={"production": A, "staging": B}), NoProbe())

    assert (sample.verdict, sample.why) == (Verdict.FAILED, "what production applies is not what staging applied")


@pytest.mark.parametrize("digests", [{}, {"production": A}, {"staging": A}])
def test_a_digest_that_is_not_known_is_inconclusive(digests: dict[str, str]) -> None:
    assert digest.measure(SAME, facts(digests=digests), NoProbe()).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("word", ["", "equal", "sha256:", A.upper(), A + "\n"])
def test_two_equal_words_that_are_no_digests_are_an_error(word: str) -> None:
    assert (
        digest.measure(SAME, facts(digests={"production": word, "staging": word}), NoProbe()).verdict is Verdict.ERROR
    )


def test_a_step_that_prints_digests_does_not_make_them_true() -> None:
    """The hole of the prototype: claims and digests in one namespace let a step print two equal strings and pass."""
    claims: dict[str, Json] = {"production": A, "staging": A}

    assert digest.measure(SAME, facts(claims=claims), NoProbe()).verdict is Verdict.INCONCLUSIVE
    lying = facts(claims=claims, digests={"production": A, "staging": B})
    assert digest.measure(SAME, lying, NoProbe()).verdict is Verdict.FAILED


def test_a_claim_is_judged_by_its_condition() -> None:
    good = facts(claims={"diagnose": {"cause": "log_growth"}})
    bad = facts(claims={"diagnose": {"cause": "inode_exhaustion"}})

    assert expr.measure(CAUSE, good, NoProbe()).verdict is Verdict.HELD
    assert expr.measure(CAUSE, bad, NoProbe()).verdict is Verdict.FAILED


def test_unless_makes_it_inconclusive() -> None:
    sample = expr.measure(CAUSE, facts(claims={"diagnose": {"cause": "unknown"}}), NoProbe())

    assert (sample.verdict, sample.why) == (Verdict.INCONCLUSIVE, 'diagnose itself says: out.cause == "unknown"')


def test_no_output_is_inconclusive() -> None:
    assert expr.measure(CAUSE, facts(), NoProbe()).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("claim", [None, [], "log_growth", {}, {"cause": None}, {"cause": True}])
def test_a_claim_of_another_form_never_holds(claim: Json) -> None:
    assert expr.measure(CAUSE, facts(claims={"diagnose": claim}), NoProbe()).verdict in {Verdict.ERROR, Verdict.FAILED}


def test_a_broken_unless_is_an_error_and_not_ignored() -> None:
    check = ExprCheck(id="c", of="diagnose", expect="true", unless="out.nothing")

    assert expr.measure(check, facts(claims={"diagnose": {}}), NoProbe()).verdict is Verdict.ERROR


def test_claims_and_digests_are_never_independent() -> None:
    """Neither by type nor by an author's word: the values have no field in which such a word could stand."""
    assert not {DigestCheck, ExprCheck} & {*INDEPENDENT, *OFF_HOST}
    assert "independent" not in {*DigestCheck.__dataclass_fields__, *ExprCheck.__dataclass_fields__}


def test_checks_of_another_kind_are_errors() -> None:
    assert digest.measure(CAUSE, facts(), NoProbe()).verdict is Verdict.ERROR
    assert expr.measure(SAME, facts(), NoProbe()).verdict is Verdict.ERROR
