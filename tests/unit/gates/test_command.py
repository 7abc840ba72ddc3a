"""Gate kind `command`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.domain.errors import Unavailable
from engine.domain.gate import CommandCheck, DigestCheck, Json, Parse
from engine.domain.states import Verdict
from engine.gates import command, evidence, parsing
from tests.unit.gates.fakes import FakeProbe, NoProbe, facts

DF = CommandCheck(
    id="room",
    target="staging",
    run=("df", "--output=pcent", "{{ inputs.mount }}"),
    expect="out < 80",
    parse=Parse.PERCENT,
)
FACTS = facts(inputs={"mount": "/srv"})


def test_df_is_read_as_it_is_printed_with_its_heading() -> None:
    sample = command.measure(DF, FACTS, FakeProbe("Use%\n 63%\n"))

    assert (sample.verdict, sample.why) == (Verdict.HELD, "out < 80, with out = 63.0")


def test_the_verifier_is_asked_on_the_checks_target_with_placeholders_filled_in() -> None:
    probe = FakeProbe("Use%\n 63%\n")

    command.measure(DF, FACTS, probe)

    assert probe.asked == [("staging", ("df", "--output=pcent", "/srv"), 60)]


def test_an_unmet_condition_fails() -> None:
    assert command.measure(DF, FACTS, FakeProbe("Use%\n 93%\n")).verdict is Verdict.FAILED


def test_a_wrong_exit_code_fails_whatever_was_printed() -> None:
    sample = command.measure(DF, FACTS, FakeProbe("Use%\n 63%\n", code=1))

    assert (sample.verdict, sample.why) == (Verdict.FAILED, "df exited 1, not 0")


def test_a_probe_that_could_not_run_is_inconclusive() -> None:
    sample = command.measure(DF, FACTS, FakeProbe("Use%\n 1%\n", code=0, reason="no VM"))

    assert (sample.verdict, sample.why) == (Verdict.INCONCLUSIVE, "the verifier could not run df: no VM")


def test_a_probe_without_an_exit_code_is_inconclusive() -> None:
    assert command.measure(DF, FACTS, FakeProbe("Use%\n 1%\n", code=None)).verdict is Verdict.INCONCLUSIVE


def test_a_probe_that_raises_is_inconclusive() -> None:
    assert command.measure(DF, FACTS, NoProbe(Unavailable("no hypervisor"))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("how", "stdout"),
    [
        (Parse.PERCENT, ""),
        (Parse.PERCENT, "Use%\n"),
        (Parse.PERCENT, " 5%\n 93%\n"),
        (Parse.PERCENT, "at 5%\n"),
        (Parse.INT, "5\n6\n"),
        (Parse.INT, "5 MB"),
        (Parse.INT, ""),
        (Parse.INT, "9" * 30),
        (Parse.JSON, "{"),
        (Parse.JSON, '{"a": NaN}'),
        (Parse.JSON, '{"ok": false, "ok": true}'),
        (Parse.JSON, "[" * 100_000),
        (Parse.TEXT, "x" * (parsing.MAX_OUTPUT + 1)),
    ],
)
def test_output_that_does_not_parse_is_an_error(how: Parse, stdout: str) -> None:
    check = replace(DF, parse=how, expect="true")

    assert command.measure(check, FACTS, FakeProbe(stdout)).verdict is Verdict.ERROR


@pytest.mark.parametrize(
    ("how", "stdout", "out"),
    [
        (Parse.TEXT, "a\n", "a\n"),
        (Parse.LINES, "a\nb\n", ["a", "b"]),
        (Parse.INT, " 12\n", 12),
        (Parse.INT, "-3", -3),
        (Parse.PERCENT, "Use%\n  7%\n", 7.0),
        (Parse.JSON, '{"a": [1]}\n', {"a": [1]}),
    ],
)
def test_each_way_of_parsing(how: Parse, stdout: str, out: Json) -> None:
    assert parsing.parse(stdout, how) == out


def test_an_unknown_placeholder_is_an_error_and_nothing_is_run() -> None:
    assert command.measure(DF, facts(), NoProbe()).verdict is Verdict.ERROR


def test_evidence_is_verbatim_and_bounded() -> None:
    check = replace(DF, parse=Parse.TEXT, expect="code == 0")
    sample = command.measure(check, FACTS, FakeProbe("x" * 10_000))

    assert isinstance(sample.seen, dict)
    assert sample.seen["stdout"] == "x" * evidence.MAX_TEXT + "… (5904 more characters)"


def test_a_check_of_another_kind_is_an_error() -> None:
    assert command.measure(DigestCheck(id="d", of="a", equals="b"), FACTS, NoProbe()).verdict is Verdict.ERROR
