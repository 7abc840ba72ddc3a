"""Gate kinds `log` and `pattern` with a real shell, real programs and real files; ssh joins the words as here."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.domain.directory import Directory
from engine.domain.gate import Check, Diagnosis, Fact, Facts, LogCheck, Parse, PatternCheck, Sample
from engine.domain.ports import ProbeAnswer
from engine.domain.states import Verdict
from engine.gates import kinds

CHANGED = datetime.now(UTC) - timedelta(minutes=5)
HOSTILE = "$(touch pwned); `touch pwned` '\"; touch pwned #"
FACTS = Facts(inputs={"name": HOSTILE}, claims={"look": {"cause": "big"}}, digests={}, changed_at=CHANGED)


def by_ssh(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
    """What the probe runner does, without the way there: one text for the target's shell."""
    done = subprocess.run(
        ["sh", "-c", shlex.join(argv)], capture_output=True, timeout=timeout_s, check=False, text=True
    )
    return ProbeAnswer(ran=True, code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def measured(check: Check) -> Sample:
    return kinds(Directory(sites={}), "")[check.type](check, FACTS, by_ssh)


def line(seconds: int, text: str) -> str:
    return f"{(CHANGED + timedelta(seconds=seconds)).isoformat()} {text}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text(line(-60, "ERROR of before") + line(5, "stopped") + line(6, "ready") + "  on port 8080\n")
    return path


def check(log: Path, **patterns: tuple[str, ...]) -> LogCheck:
    return replace(
        LogCheck(id="log", target="t", run=("tail", "-c", "200000", "--", str(log)), timeout_s=10),
        **patterns,  # type: ignore[arg-type]  # present, absent
    )


def test_a_real_log_is_read_since_the_change(log: Path) -> None:
    assert measured(check(log, absent=("ERROR",), present=("ready$",))).verdict is Verdict.HELD
    with log.open("a") as more:
        more.write(line(20, "ERROR again"))
    assert measured(check(log, absent=("ERROR",))).verdict is Verdict.FAILED


def test_a_log_that_nobody_writes_any_more_is_no_data(log: Path) -> None:
    log.write_text(line(-60, "ready"))

    sample = measured(check(log, absent=("ERROR",)))
    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)


def test_a_log_that_is_not_there_fails(tmp_path: Path) -> None:
    assert measured(check(tmp_path / "nothing", absent=("ERROR",))).verdict is Verdict.FAILED


def test_the_end_of_a_long_log_is_read_and_a_line_that_was_cut_off_does_not_count(log: Path) -> None:
    log.write_text("ready " + "x" * 100 + "\n" + line(-9, "old") + line(9, "y" * 1000) * 180)

    assert measured(check(log, absent=("ERROR",))).verdict is Verdict.HELD
    assert measured(check(log, present=("ready",))).verdict is Verdict.FAILED


def test_a_log_that_has_had_more_than_is_shown_says_nothing(log: Path) -> None:
    """An error right after the change, and then so many lines that the end of the file does not reach back to it."""
    log.write_text(line(1, "ERROR") + line(9, "y" * 1000) * 300)

    assert measured(check(log, absent=("ERROR",))).verdict is Verdict.INCONCLUSIVE
    for tail in (("tail", "-n", "5"), ("tail", "-n5"), ("tail", "--lines=5"), ("tail",)):
        few = replace(check(log, absent=("ERROR",)), run=(*tail, str(log)))
        assert measured(few).verdict is Verdict.INCONCLUSIVE, tail


def test_a_hostile_input_stays_a_word(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = replace(check(log, absent=("x",)), run=("printf", "%s %s\\n", line(1, "").strip(), "{{ inputs.name }}"))
    sample = measured(replace(command, absent=("ERROR",), present=(r"\$\(touch pwned\); `touch pwned`",)))

    assert sample.verdict is Verdict.HELD, sample
    assert not (tmp_path / "pwned").exists()


def test_a_diagnosis_is_measured_with_real_programs(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    facts = (
        Fact(name="mb", run=("sh", "-c", f"du -sm {tmp_path} | cut -f1"), parse=Parse.INT),
        Fact(name="used", run=("df", "--output=pcent", str(tmp_path)), parse=Parse.PERCENT),
    )
    pattern = PatternCheck(
        id="p",
        target="t",
        of="look",
        cause="cause",
        known=(Diagnosis(cause="big", facts=facts, expect="mb >= 2 && used > 0.0"),),
    )

    assert measured(pattern).verdict is Verdict.HELD
    (tmp_path / "big").unlink()
    assert measured(pattern).verdict is Verdict.FAILED
