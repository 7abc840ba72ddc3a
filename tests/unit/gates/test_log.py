"""Gate kind `log`: what a log has had since the change, and never what it had before or what nobody wrote."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.domain.errors import Unavailable
from engine.domain.gate import DigestCheck, Facts, LogCheck, Sample
from engine.domain.states import Verdict
from engine.gates import log
from tests.unit.gates.fakes import FakeProbe, NoProbe, facts

QUIET = LogCheck(id="quiet", target="staging", run=("journalctl", "-u", "{{ inputs.unit }}"), absent=("ERROR|panic",))
STARTED = replace(QUIET, absent=(), present=("ready to serve$",))
CHANGED = datetime.now(UTC) - timedelta(seconds=60)
SINCE = replace(facts(inputs={"unit": "checkout"}), changed_at=CHANGED)


def at(seconds: float) -> str:
    """So many seconds after the change."""
    return (CHANGED + timedelta(seconds=seconds)).isoformat()


def measured(check: LogCheck, *lines: str, clock: float | None = None, known: Facts = SINCE) -> Sample:
    now = int(time.time() if clock is None else clock)
    return log.measure(check, known, FakeProbe("\n".join([str(now), *lines, ""])))


def test_a_log_without_the_pattern_since_the_change_holds() -> None:
    sample = measured(QUIET, f"{at(-5)} ERROR old", f"{at(1)} started", f"{at(2)} ready")

    assert (sample.verdict, sample.why) == (Verdict.HELD, "2 lines: none has ERROR|panic")


def test_a_log_with_it_fails_and_the_line_is_evidence() -> None:
    sample = measured(QUIET, f"{at(1)} started", f"{at(2)} ERROR no disk")

    assert sample.verdict is Verdict.FAILED
    assert "ERROR no disk" in sample.why
    assert isinstance(sample.seen, dict)
    assert sample.seen["found"] == {"ERROR|panic": [f"{at(2)} ERROR no disk"]}


def test_what_must_be_there_must_have_come_after_the_change() -> None:
    assert measured(STARTED, f"{at(1)} ready to serve").verdict is Verdict.HELD
    assert measured(STARTED, f"{at(-1.5)} ready to serve", f"{at(1)} bye").verdict is Verdict.FAILED


def test_zero_lines_are_no_data_and_never_hold() -> None:
    """The hole of the prototype: only `absent`, and a log that nobody writes any more."""
    for lines in ((), (f"{at(-5)} fine",), ("",)):
        sample = measured(QUIET, *lines)
        assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)


def test_a_line_without_a_time_belongs_to_the_line_before() -> None:
    assert measured(QUIET, f"{at(1)} Traceback", "  panic: out of memory").verdict is Verdict.FAILED
    assert measured(QUIET, f"{at(-5)} Traceback", "  panic: old", f"{at(1)} fine").verdict is Verdict.HELD
    assert measured(STARTED, "ready to serve", f"{at(1)} x").verdict is Verdict.FAILED, "its beginning was cut off"


@pytest.mark.parametrize(
    "stamp",
    ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S,123+00:00", "[%Y-%m-%dT%H:%M:%S.000001+0000]", "%s", "%s.5"],
)
def test_the_ways_in_which_logs_write_the_time(stamp: str) -> None:
    after = (CHANGED + timedelta(seconds=3)).strftime(stamp.replace("%s", str(int(CHANGED.timestamp()) + 3)))

    assert measured(STARTED, f"{after} ready to serve").verdict is Verdict.HELD


def test_a_time_that_could_be_in_any_zone_says_nothing_unless_the_author_says_utc() -> None:
    """Two hours ahead, everything old would look like new."""
    line = f"{(CHANGED + timedelta(seconds=2)).strftime('%Y-%m-%d %H:%M:%S')} ready to serve"

    assert measured(STARTED, line).verdict is Verdict.ERROR
    assert measured(replace(STARTED, utc=True), line).verdict is Verdict.HELD


@pytest.mark.parametrize(
    "lines",
    [
        ("ready to serve",),
        ("2026-13-45T99:00:00Z ready to serve",),
        ("x" * (log.MAX_OUTPUT + 1),),
        (f"{at(1)} {'x' * 5000} ready to serve",),
        tuple(f"{at(1)} ready to serve" for _ in range(5001)),
    ],
    ids=["no time", "no such time", "too much", "a long line", "too many lines"],
)
def test_a_log_that_cannot_be_read_is_an_error(lines: tuple[str, ...]) -> None:
    assert measured(STARTED, *lines).verdict is Verdict.ERROR


@pytest.mark.parametrize("off", [-3600, -30, 30, 3600])
def test_a_clock_that_is_wrong_cannot_tell_before_from_after(off: int) -> None:
    sample = measured(STARTED, f"{at(1)} ready to serve", clock=time.time() + off)

    assert (sample.verdict, "s off" in sample.why) == (Verdict.INCONCLUSIVE, True)


def test_a_target_that_tells_no_time_is_inconclusive() -> None:
    assert log.measure(STARTED, SINCE, FakeProbe("ready to serve\n")).verdict is Verdict.INCONCLUSIVE


def test_without_a_change_the_last_minutes_count() -> None:
    known = facts(inputs={"unit": "checkout"})
    check = replace(STARTED, within_s=120)

    def ago(seconds: int) -> str:
        return f"{(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()} ready to serve"

    assert measured(check, ago(60), known=known).verdict is Verdict.HELD
    assert measured(check, ago(180), known=known).verdict is Verdict.INCONCLUSIVE


def test_the_verifier_is_asked_for_the_clock_and_the_log_in_one_and_words_stay_words() -> None:
    probe = FakeProbe("")

    log.measure(QUIET, replace(SINCE, inputs={"unit": "x; reboot"}), probe)

    assert probe.asked == [("staging", (*log.CLOCK_AND, "journalctl", "-u", "x; reboot"), 60)]


def test_a_command_that_fails_or_does_not_run_never_holds() -> None:
    assert log.measure(QUIET, SINCE, FakeProbe("", code=1)).verdict is Verdict.FAILED
    assert log.measure(QUIET, SINCE, FakeProbe("", reason="no VM")).verdict is Verdict.INCONCLUSIVE
    assert log.measure(QUIET, SINCE, NoProbe(Unavailable("no hypervisor"))).verdict is Verdict.INCONCLUSIVE
    assert log.measure(QUIET, facts(), NoProbe()).verdict is Verdict.ERROR, "an input that is not known"


@pytest.mark.parametrize("pattern", ["(", "(?=x)", r"(a)\1", "a{1000}{1000}", ""])
def test_a_pattern_that_is_none_is_an_error(pattern: str) -> None:
    assert measured(replace(QUIET, absent=(pattern,)), f"{at(1)} x").verdict in {Verdict.ERROR, Verdict.FAILED}


def test_a_hostile_line_cannot_make_a_pattern_compute_for_long() -> None:
    begun = time.monotonic()
    sample = measured(replace(QUIET, absent=("^.* (a+)+$",)), *[f"{at(1)} {'a' * 3000}!" for _ in range(80)])

    assert sample.verdict is Verdict.HELD
    assert time.monotonic() - begun < 5


def test_a_check_that_asks_for_nothing_and_one_of_another_kind_are_errors() -> None:
    assert log.measure(replace(QUIET, absent=()), SINCE, NoProbe()).verdict is Verdict.ERROR
    assert log.measure(DigestCheck(id="d", of="a", equals="b"), SINCE, NoProbe()).verdict is Verdict.ERROR
