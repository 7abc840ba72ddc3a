"""Every kind of gate can be replayed: by its real code, told what its source would say."""

from __future__ import annotations

import typing

import pytest

from engine.domain.gate import Check, CommandCheck, DigestCheck, ExprCheck, Facts, HttpCheck, Parse, PromqlCheck
from engine.domain.states import Verdict
from engine.proving.examples import ExampleEdge
from engine.proving.kinds import KINDS
from engine.proving.kinds.command import CommandAnswer
from engine.proving.kinds.digest import DigestAnswer
from engine.proving.kinds.expr import ExprAnswer
from engine.proving.kinds.http import HttpAnswer
from engine.proving.kinds.port import Answer
from engine.proving.kinds.promql import PromqlAnswer

FACTS = Facts(inputs={"mount": "/srv"}, claims={}, digests={}, hosts={"staging": "staging.demo"})
DF = CommandCheck(id="room", target="staging", run=("df", "{{ inputs.mount }}"), expect="out < 80", parse=Parse.PERCENT)
HEALTH = HttpCheck(id="answers", target="staging", path="/healthz", expect="status == 200 && json.ok == true")
RATIO = PromqlCheck(id="ratio", target="staging", query="up / sum(down)", expect="result[0] < 0.8", max_age_s=15)
SAME = DigestCheck(id="same", of="production", equals="staging")
CAUSE = ExprCheck(id="cause", of="diagnose", expect='out.cause == "log"', unless='out.cause == "unknown"')
GOOD: tuple[tuple[Check, Answer], ...] = (
    (DF, CommandAnswer(stdout="Use%\n 12%\n")),
    (HEALTH, HttpAnswer(body='{"ok": true}')),
    (RATIO, PromqlAnswer(vector=[0.1], age=[3.0, 14.0])),
    (SAME, DigestAnswer(of="a", equals="a")),
    (CAUSE, ExprAnswer(output={"cause": "log"})),
)
BAD: tuple[tuple[Check, Answer, Verdict], ...] = (
    (DF, CommandAnswer(stdout="Use%\n 80%\n"), Verdict.FAILED),
    (DF, CommandAnswer(exit=1), Verdict.FAILED),
    (DF, CommandAnswer(unreachable=True), Verdict.INCONCLUSIVE),
    (HEALTH, HttpAnswer(status=500, body='{"ok": true}'), Verdict.FAILED),
    (HEALTH, HttpAnswer(body="<html>"), Verdict.ERROR),
    (RATIO, PromqlAnswer(vector=[0.8]), Verdict.FAILED),
    (RATIO, PromqlAnswer(vector=[0.1], age=16), Verdict.INCONCLUSIVE),
    (RATIO, PromqlAnswer(vector=[0.1], age=[1.0, 16.0]), Verdict.INCONCLUSIVE),
    (RATIO, PromqlAnswer(vector=[0.1], trouble="warning"), Verdict.INCONCLUSIVE),
    (SAME, DigestAnswer(of="b", equals="a"), Verdict.FAILED),
    (CAUSE, ExprAnswer(output={"cause": "unknown"}), Verdict.INCONCLUSIVE),
)


def test_every_type_of_check_has_its_place() -> None:
    types = {kind.__dataclass_fields__["type"].default for kind in typing.get_args(Check)}

    assert types == set(KINDS)


@pytest.mark.parametrize(("check", "answer"), GOOD, ids=lambda one: getattr(one, "id", ""))
def test_a_good_answer_holds_and_nothing_that_spoils_it_does(check: Check, answer: Answer) -> None:
    kind = KINDS[check.type]

    assert kind.measure(check, FACTS, answer).verdict is Verdict.HELD
    spoilt = {what: kind.measure(check, FACTS, one).verdict for what, one in kind.never(check, answer)}
    assert len(spoilt) > 1
    assert [what for what, verdict in spoilt.items() if verdict is Verdict.HELD] == []


@pytest.mark.parametrize(("check", "answer", "verdict"), BAD)
def test_a_bad_answer_gives_the_kinds_own_verdict(check: Check, answer: Answer, verdict: Verdict) -> None:
    assert KINDS[check.type].measure(check, FACTS, answer).verdict is verdict


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_no_kind_takes_the_words_that_every_example_has(kind: typing.Any) -> None:
    assert not set(kind.answer.model_fields) & set(ExampleEdge.model_fields)
