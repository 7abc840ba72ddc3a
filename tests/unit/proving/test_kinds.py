"""Every kind of gate can be replayed: by its real code, told what its source would say."""

from __future__ import annotations

import typing

import pytest

from engine.domain.gate import (
    Check,
    CommandCheck,
    Diagnosis,
    DiffCheck,
    DigestCheck,
    ExprCheck,
    Fact,
    Facts,
    HttpCheck,
    LogCheck,
    Parse,
    PatternCheck,
    PolicyCheck,
    PolicyRule,
    PromqlCheck,
    SchemaCheck,
    SqlCheck,
)
from engine.domain.states import Verdict
from engine.proving.examples import ExampleEdge
from engine.proving.kinds import KINDS
from engine.proving.kinds.command import CommandAnswer
from engine.proving.kinds.diff import DiffAnswer
from engine.proving.kinds.digest import DigestAnswer
from engine.proving.kinds.expr import ExprAnswer
from engine.proving.kinds.http import CertificateAnswer, HttpAnswer
from engine.proving.kinds.log import LogAnswer
from engine.proving.kinds.pattern import FactAnswer, PatternAnswer
from engine.proving.kinds.policy import PolicyAnswer
from engine.proving.kinds.port import Answer
from engine.proving.kinds.promql import PromqlAnswer
from engine.proving.kinds.schema import SchemaAnswer
from engine.proving.kinds.sql import SqlAnswer

FACTS = Facts(inputs={"mount": "/srv"}, claims={}, digests={}, hosts={"staging": "staging.demo"})
DF = CommandCheck(id="room", target="staging", run=("df", "{{ inputs.mount }}"), expect="out < 80", parse=Parse.PERCENT)
HEALTH = HttpCheck(id="answers", target="staging", path="/healthz", expect="status == 200 && json.ok == true")
LONG = HttpCheck(id="served", target="staging", path="/", expect="status == 200 && cert.days_left > 30.0")
RATIO = PromqlCheck(id="ratio", target="staging", query="up / sum(down)", expect="result[0] < 0.8", max_age_s=15)
SAME = DigestCheck(id="same", of="production", equals="staging")
CAUSE = ExprCheck(id="cause", of="diagnose", expect='out.cause == "log"', unless='out.cause == "unknown"')
FEWER = PromqlCheck(id="fewer", target="staging", query="up", expect="result[0] < before[0]", for_s=60)
FREE = SqlCheck(id="free", target="staging", query="SELECT count(*) AS n FROM t", expect="rows[0].n < 80", max_rows=3)
QUIET = LogCheck(
    id="quiet", target="staging", run=("cat", "/var/log/shop.log"), present=("beat",), absent=("ERROR", "FATAL")
)
KNOWN = PatternCheck(
    id="known",
    target="staging",
    of="diagnose",
    cause="cause",
    known=(
        Diagnosis(
            cause="log",
            facts=(
                Fact(name="used", run=("df", "/srv"), parse=Parse.PERCENT),
                Fact(name="level", run=("cat", "/srv/level")),
            ),
            expect='used > 80.0 && level == "debug"',
        ),
        Diagnosis(cause="inodes", facts=(Fact(name="free", run=("free",), parse=Parse.INT),), expect="free == 0"),
    ),
)
SHAPE = SchemaCheck(
    id="shape",
    of="diagnose",
    schema={
        "type": "object",
        "required": ["cause", "used"],
        "properties": {"cause": {"enum": ["log", "inodes"]}, "used": {"type": "integer", "minimum": 80}},
    },
)
SCOPE = DiffCheck(id="scope", of="fix", allow=("conf/*.json", "notes"), max_files=2, max_lines=3)
RULES = PolicyCheck(
    id="rules",
    of="plan",
    file="plan.json",
    rules=(PolicyRule(id="few", expect="size(doc.changes) < 3"), PolicyRule(id="kept", expect="doc.destroyed == 0")),
)


def log_growth(used: str, level: str) -> PatternAnswer:
    return PatternAnswer(cause="log", facts={"used": FactAnswer(stdout=used), "level": FactAnswer(stdout=level)})


GOOD: tuple[tuple[Check, Answer], ...] = (
    (DF, CommandAnswer(stdout="Use%\n 12%\n")),
    (HEALTH, HttpAnswer(body='{"ok": true}')),
    (LONG, HttpAnswer(cert=CertificateAnswer(days_left=30.05))),
    (RATIO, PromqlAnswer(vector=[0.1], age=[3.0, 14.0])),
    (SAME, DigestAnswer(of="a", equals="a")),
    (CAUSE, ExprAnswer(output={"cause": "log"})),
    (FEWER, PromqlAnswer(vector=[3.0], before=[4.0])),
    (FREE, SqlAnswer(rows=[{"n": 79}])),
    (QUIET, LogAnswer(lines=["beat", "all is well"])),
    (KNOWN, log_growth("81%", "debug")),
    (KNOWN, log_growth("80.1%", "debug")),
    (KNOWN, PatternAnswer(cause="inodes", facts={"free": FactAnswer(stdout="0\n")})),
    (SHAPE, SchemaAnswer(output={"cause": "log", "used": 80})),
    (SHAPE, SchemaAnswer(output={"cause": "inodes", "used": 81})),
    (SCOPE, DiffAnswer(new={"conf/a.json": "1\n2\n", "notes": "x\n"})),
    (RULES, PolicyAnswer(doc={"changes": [1, 2], "destroyed": 0})),
)
BAD: tuple[tuple[Check, Answer, Verdict], ...] = (
    (DF, CommandAnswer(stdout="Use%\n 80%\n"), Verdict.FAILED),
    (DF, CommandAnswer(exit=1), Verdict.FAILED),
    (DF, CommandAnswer(unreachable=True), Verdict.INCONCLUSIVE),
    (HEALTH, HttpAnswer(status=500, body='{"ok": true}'), Verdict.FAILED),
    (HEALTH, HttpAnswer(body="<html>"), Verdict.ERROR),
    (LONG, HttpAnswer(cert=CertificateAnswer(days_left=30)), Verdict.FAILED),
    (LONG, HttpAnswer(status=500, cert=CertificateAnswer()), Verdict.FAILED),
    (LONG, HttpAnswer(), Verdict.ERROR),
    (LONG, HttpAnswer(silent=True), Verdict.FAILED),
    (RATIO, PromqlAnswer(vector=[0.8]), Verdict.FAILED),
    (RATIO, PromqlAnswer(vector=[0.1], age=16), Verdict.INCONCLUSIVE),
    (RATIO, PromqlAnswer(vector=[0.1], age=[1.0, 16.0]), Verdict.INCONCLUSIVE),
    (RATIO, PromqlAnswer(vector=[0.1], trouble="warning"), Verdict.INCONCLUSIVE),
    (SAME, DigestAnswer(of="b", equals="a"), Verdict.FAILED),
    (CAUSE, ExprAnswer(output={"cause": "unknown"}), Verdict.INCONCLUSIVE),
    (FEWER, PromqlAnswer(vector=[4.0], before=[4.0]), Verdict.FAILED),
    (FEWER, PromqlAnswer(vector=[3.0], earlier=[4.0], before=[4.0]), Verdict.FAILED),
    (FREE, SqlAnswer(rows=[{"n": 80}]), Verdict.FAILED),
    (FREE, SqlAnswer(rows=[{"n": "many"}]), Verdict.ERROR),
    (QUIET, LogAnswer(lines=["beat", "ERROR: it broke"]), Verdict.FAILED),
    (QUIET, LogAnswer(lines=["beat", "FATAL"]), Verdict.FAILED),
    (QUIET, LogAnswer(lines=["all is well"]), Verdict.FAILED),
    (KNOWN, PatternAnswer(cause="inodes", facts={"free": FactAnswer(stdout="1\n")}), Verdict.FAILED),
    (KNOWN, log_growth("80%", "debug"), Verdict.FAILED),
    (KNOWN, PatternAnswer(cause="inodes", facts={"free": FactAnswer(stdout="0.0")}), Verdict.ERROR),
    (KNOWN, log_growth("81%", "info"), Verdict.FAILED),
    (KNOWN, PatternAnswer(cause="log", facts={"used": FactAnswer(stdout="81%\n")}), Verdict.INCONCLUSIVE),
    (SHAPE, SchemaAnswer(output={"cause": "log"}), Verdict.FAILED),
    (SHAPE, SchemaAnswer(output={"used": 80}), Verdict.FAILED),
    (SHAPE, SchemaAnswer(output={"cause": "~", "used": 80}), Verdict.FAILED),
    (SHAPE, SchemaAnswer(output={"cause": "log", "used": 79}), Verdict.FAILED),
    (SHAPE, SchemaAnswer(output={"cause": "log", "used": 80.5}), Verdict.FAILED),
    (SCOPE, DiffAnswer(new={"conf/a.json": "1\n2\n3\n4\n"}), Verdict.FAILED),
    (SCOPE, DiffAnswer(new={"conf/a.json": "1\n", "conf/b.json": "1\n", "notes": "1\n"}), Verdict.FAILED),
    (RULES, PolicyAnswer(doc={"changes": [1, 2], "destroyed": 1}), Verdict.FAILED),
    (RULES, PolicyAnswer(doc={"changes": [1, 2, 3], "destroyed": 0}), Verdict.FAILED),
)
SURVIVE: dict[str, list[str]] = {}


def test_every_type_of_check_has_its_place() -> None:
    types = {kind.__dataclass_fields__["type"].default for kind in typing.get_args(Check)}

    assert types - {"quorum"} == set(KINDS), "a quorum is proved by its members"


@pytest.mark.parametrize("check", {id(check): check for check, _ in GOOD}.values(), ids=lambda one: one.id)
def test_every_break_of_a_check_can_be_noticed(check: Check) -> None:
    kind = KINDS[check.type]
    cases = [
        (answer, None if kind.measure(check, FACTS, answer).verdict is not Verdict.HELD else Verdict.HELD)
        for one, answer in (*GOOD, *((one, answer) for one, answer, _ in BAD))
        if one is check
    ]
    cases += [(answer, None) for good, _ in cases[:1] for _, answer in kind.never(check, good)]

    unnoticed = [
        what
        for what, broken in kind.broken(check)
        if all(
            (kind.measure(broken, FACTS, answer).verdict is Verdict.HELD) is (verdict is Verdict.HELD)
            for answer, verdict in cases
        )
    ]
    assert unnoticed == SURVIVE.get(check.id, [])


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
