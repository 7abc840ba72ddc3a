"""Gate kind `pattern`: a claimed cause chooses what is measured, and certifies nothing itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from engine.domain.errors import Unavailable
from engine.domain.gate import Diagnosis, DigestCheck, Fact, Json, Parse, PatternCheck, Sample
from engine.domain.ports import ProbeAnswer
from engine.domain.states import Verdict
from engine.gates import parsing, pattern
from tests.unit.gates.fakes import FakeProbe, NoProbe, facts

USED = Fact(name="used", run=("df", "--output=pcent", "{{ inputs.mount }}"), parse=Parse.PERCENT)
LOG = Fact(name="log", run=("du", "-sm", "/srv/log"), parse=Parse.INT)
OPEN = Fact(name="open", run=("lsof", "+L1"), parse=Parse.LINES)
CHECK = PatternCheck(
    id="confirmed",
    target="production",
    of="diagnose",
    cause="cause",
    known=(
        Diagnosis(cause="log_growth", facts=(USED, LOG), expect="used > 80.0 && log > 10"),
        Diagnosis(cause="deleted_open_file", facts=(USED, OPEN), expect="used > 80.0 && size(open) > 0"),
    ),
)


def claiming(output: Json) -> Mapping[str, Json]:
    return {"diagnose": output}


class Target:
    """Answers each program with its own text."""

    def __init__(self, **said: str) -> None:
        self.said = said
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
        self.asked.append(argv)
        return ProbeAnswer(ran=True, code=0, stdout=self.said[argv[0]], stderr="")


def measured(cause: str, target: Target) -> Sample:
    known = facts(inputs={"mount": "/srv"}, claims=claiming({"cause": cause}))
    return pattern.measure(CHECK, known, target)


def test_a_claimed_cause_that_is_measured_holds_and_its_facts_are_evidence() -> None:
    target = Target(df="Use%\n 93%\n", du="40\n")
    sample = measured("log_growth", target)

    assert (sample.verdict, sample.why) == (Verdict.HELD, "used > 80.0 && log > 10, with used = 93.0, log = 40")
    assert target.asked == [("df", "--output=pcent", "/srv"), ("du", "-sm", "/srv/log")]
    assert isinstance(sample.seen, dict)
    assert set(sample.seen) == {"cause", "fact used", "fact log"}


def test_a_claimed_cause_that_is_not_so_fails() -> None:
    assert measured("log_growth", Target(df=" 93%\n", du="3\n")).verdict is Verdict.FAILED


def test_the_claim_chooses_the_diagnosis() -> None:
    target = Target(df=" 93%\n", lsof="x\n")

    assert measured("deleted_open_file", target).verdict is Verdict.HELD
    assert target.asked[1] == ("lsof", "+L1")


@pytest.mark.parametrize("cause", ["unknown", "", "log_growth ", "LOG_GROWTH", "log_growth\n"])
def test_a_cause_that_nobody_knows_does_not_hold_and_nothing_is_run(cause: str) -> None:
    known = facts(inputs={"mount": "/srv"}, claims=claiming({"cause": cause}))

    assert pattern.measure(CHECK, known, NoProbe()).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("claim", [None, [], "log_growth", {}, {"cause": None}, {"cause": ["log_growth"]}])
def test_a_claim_without_a_cause_is_no_data(claim: Json) -> None:
    sample = pattern.measure(CHECK, facts(claims=claiming(claim)), NoProbe())

    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)


def test_a_step_that_printed_nothing_is_no_data() -> None:
    assert pattern.measure(CHECK, facts(), NoProbe()).no_data


@pytest.mark.parametrize("said", ["", "many", "5\n6", "9" * 30, "x" * (parsing.MAX_OUTPUT + 1)])
def test_a_fact_that_does_not_parse_is_an_error(said: str) -> None:
    sample = measured("log_growth", Target(df=" 93%\n", du=said))

    assert (sample.verdict, sample.why[:4]) == (Verdict.ERROR, "log:")


def test_a_fact_that_could_not_be_had_never_holds() -> None:
    known = facts(inputs={"mount": "/srv"}, claims=claiming({"cause": "log_growth"}))

    assert pattern.measure(CHECK, known, FakeProbe(" 93%\n", code=1)).verdict is Verdict.FAILED
    assert pattern.measure(CHECK, known, FakeProbe("", reason="no VM")).verdict is Verdict.INCONCLUSIVE
    assert pattern.measure(CHECK, known, NoProbe(Unavailable("down"))).verdict is Verdict.INCONCLUSIVE
    assert pattern.measure(CHECK, facts(claims=known.claims), NoProbe()).verdict is Verdict.ERROR


def test_a_step_cannot_pass_its_own_facts() -> None:
    """Names of facts in the claim are not what the condition sees."""
    claim: Json = {"cause": "log_growth", "used": 99, "log": 99}
    known = facts(inputs={"mount": "/srv"}, claims=claiming(claim))

    def well(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
        return ProbeAnswer(ran=True, code=0, stdout=" 10%\n" if argv[0] == "df" else "1\n", stderr="")

    assert pattern.measure(CHECK, known, well).verdict is Verdict.FAILED


def test_a_check_of_another_kind_is_an_error() -> None:
    assert pattern.measure(DigestCheck(id="d", of="a", equals="b"), facts(), NoProbe()).verdict is Verdict.ERROR
