"""What a playbook's phases came to: only a target that was reached, worked on and left alone by the rerun is as it
should be. The events are those that the callback writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.domain.runbook import PLAY_OUTPUT
from engine.runtime.guest import play
from engine.runtime.guest.play import CHECK, RERUN, RUN, Phase

STATS = {"event": "stats", "hosts": {"target": {}}}


def event(kind: str, task: str = "Settings", **more: Any) -> dict[str, Any]:
    told = {"event": kind, "task": task, "host": "target", "changed": False, "ignored": False, "delegated": ""}
    return {**told, "why": "", "paths": [], **more}


CHANGED = event("ok", changed=True, paths=["/etc/app.conf"])


def phase(name: str, *events: dict[str, Any], code: int = 0, stderr: str = "") -> Phase:
    lines = [json.dumps(one) for one in ({"event": "play", "task": "The app"}, *events)]
    return play.read(Phase(name, code=code, stderr=stderr), lines)


@pytest.mark.parametrize(
    "good",
    [
        phase(CHECK, CHANGED, STATS),
        phase(CHECK, event("ok"), STATS),
        phase(CHECK, event("skipped"), STATS),  # a command has no check mode
        phase(RUN, CHANGED, event("skipped"), STATS),
        phase(RUN, event("failed", ignored=True), event("ok"), STATS),
        phase(RUN, event("failed"), event("ok"), STATS),  # rescued: it ended with 0
        phase(RERUN, event("ok"), STATS),
    ],
)
def test_a_phase_that_is_as_it_should_be(good: Phase) -> None:
    assert good.fault() == ""


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (
            phase(RUN, event("unreachable", why="no route"), STATS, code=4),
            "run: the target could not be reached: Setti",
        ),
        (phase(RUN, event("unreachable", ignored=True), event("ok"), STATS), "could not be reached"),
        (phase(RUN, event("failed", why="no space"), STATS, code=2), "run: a task failed: Settings: no space"),
        (phase(RUN, STATS, code=4, stderr="x\nERROR! no such file\n"), "ended with 4: ERROR! no such file"),
        (phase(RUN, code=0), "ended without telling how"),
        (phase(RUN, event("ok"), code=0), "ended without telling how"),
        (phase(RUN, event("ok"), {"event": "no_hosts"}, STATS), "no host matched the play The app"),
        (phase(CHECK, {"event": "no_hosts"}, STATS), "no host matched"),
        (phase(RUN, STATS), "no task ran, 0 were skipped"),
        (phase(CHECK, STATS), "no task ran, 0 were skipped"),
        (phase(RUN, event("skipped"), STATS), "no task ran, 1 were skipped"),
        (phase(RUN, event("ok", host="localhost"), STATS), "did not work on the target: Settings on localhost"),
        (phase(CHECK, event("skipped", delegated="db"), STATS), "did not work on the target: Settings on db"),
        (
            phase(RERUN, CHANGED, event("ok", "More", changed=True), STATS),
            "not idempotent, changed again: Settings; Mor",
        ),
    ],
)
def test_a_phase_that_is_not(bad: Phase, says: str) -> None:
    assert says in bad.fault()


def test_the_report_tells_what_would_change_what_did_and_what_was_passed_over() -> None:
    phases = {
        CHECK: phase(CHECK, CHANGED, STATS),
        RUN: phase(RUN, CHANGED, event("failed", "A", ignored=True), event("failed", "B", why="no"), STATS),
        RERUN: phase(RERUN, event("ok"), event("ok"), STATS),
    }
    said = play.report(phases, "")

    assert tuple(said) == PLAY_OUTPUT
    assert (said["drift"], said["paths"], said["would_change"]) == (True, ["/etc/app.conf"], ["Settings"])
    assert (said["changed"], said["changed_again"]) == (["Settings"], [])
    assert (said["ignored"], said["rescued"], said["tasks"]) == (["A"], ["B: no"], 3)


def test_the_report_is_bounded() -> None:
    many = [event("ok", f"{number} " + "x" * 500, changed=True, paths=[f"/{number}"]) for number in range(500)]
    said = play.report({CHECK: phase(CHECK, *many, STATS)}, "no")

    assert len(json.dumps(said)) < 64 * 1024
    assert len(said["would_change"]) == play.MAX_LISTED


ANSIBLE = """#!/bin/sh
case "$*" in *--check*) name=check ;; *) [ -e {folder}/run.events.done ] && name=rerun || name=run ;; esac
echo "$*" >> {folder}/called
cat {folder}/$name.says > "$SIGNALBOX_EVENTS"
[ $name = run ] && touch {folder}/run.events.done
echo "a warning" >&2
exit $(cat {folder}/$name.code 2>/dev/null || echo 0)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an ansible-playbook that says what NAME.says says."""
    program = tmp_path / "bin" / "ansible-playbook"
    program.parent.mkdir()
    program.write_text(ANSIBLE.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(play, "HERE", tmp_path)
    for name in (CHECK, RUN, RERUN):
        (tmp_path / f"{name}.says").write_text("\n".join(map(json.dumps, (event("ok"), STATS))) + "\n")
    return tmp_path


def carry_out(here: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> int:
    monkeypatch.setattr(sys, "argv", ["play.py", str(here / "site.yml"), *names])
    return play.main()


def calls(here: Path) -> list[str]:
    return [" ".join(line.split()[4:]) for line in (here / "called").read_text().splitlines()]


def test_it_shows_then_runs_then_runs_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert carry_out(here, monkeypatch, CHECK, RUN, RERUN) == 0

    playbook = str(here / "site.yml")
    assert calls(here) == [f"--check --diff {playbook}", playbook, playbook]
    assert "why" not in json.loads(capfd.readouterr().out.splitlines()[-1])


def test_nothing_runs_after_a_check_that_failed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "check.code").write_text("2")
    (here / "check.says").write_text(json.dumps(event("failed", why="no space")) + "\n")

    assert carry_out(here, monkeypatch, CHECK, RUN, RERUN) == 1
    assert len(calls(here)) == 1
    out, err = capfd.readouterr()
    assert json.loads(out.splitlines()[-1])["why"] == "check: a task failed: Settings: no space"
    assert err.splitlines()[-1] == "check: a task failed: Settings: no space"


def test_what_changes_again_fails_and_is_told(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "rerun.says").write_text("\n".join(map(json.dumps, (CHANGED, STATS))))

    assert carry_out(here, monkeypatch, CHECK, RUN, RERUN) == 1
    said = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert said["changed_again"] == ["Settings"]
    assert "changed again: Settings" in said["why"]
