"""The gateway of a step's VM: over real HTTP, asked by the program that the VM has."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.agents import gateway
from engine.agents.gateway import Gateway, Pass
from engine.domain.errors import Unavailable
from engine.domain.journey import plan
from engine.domain.standing import Standing, standing
from engine.domain.states import RunState
from engine.runtime.guest import ask
from tests.doubles.toy import toy_runbook

JOURNEY = plan(toy_runbook())


def at(leg: str, state: RunState = RunState.RUNNING) -> Standing:
    return standing(JOURNEY, run="r", incident=7, runbook="toy", state=state, leg=leg)


@pytest.fixture
def served() -> Iterator[Gateway]:
    """A gateway whose clock stands still."""
    gateway = Gateway(clock=lambda: 0.0)
    yield gateway
    gateway.close()


def asked(served: Gateway, given: Pass, folder: Path) -> subprocess.CompletedProcess[str]:
    """What `signalbox gate check` says in the VM, whose egress leads to the gateway."""
    port = served.reach().address_port
    url = given.url.replace(f"{gateway.HOST}/", f"127.0.0.1:{port}/")
    (folder / "pass.json").write_text(json.dumps({"url": url, "token": given.token}))
    command = [sys.executable, "-I", ask.__file__, "gate", "check"]
    env = {"SIGNALBOX_PASS": str(folder / "pass.json")}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_under_way_it_is_told_to_wait(served: Gateway, tmp_path: Path) -> None:
    with served.door("diagnose", lambda: at("diagnose")) as given:
        told = asked(served, given, tmp_path)

    assert told.returncode == 1
    assert told.stdout.startswith("diagnose: under way")
    assert json.loads(told.stdout.splitlines()[-1])["may_proceed"] is False


def test_only_after_its_gate_it_may_proceed(served: Gateway, tmp_path: Path) -> None:
    gate = JOURNEY.after("diagnose").id
    with served.door("diagnose", lambda: at(gate, RunState.HALTED)) as given:
        told = asked(served, given, tmp_path)
    with served.door("diagnose", lambda: at(JOURNEY.after(gate).id)) as given:
        passed = asked(served, given, tmp_path)

    assert (told.returncode, "not passed" in told.stdout) == (1, True)
    assert (passed.returncode, "proceed" in passed.stdout) == (0, True)


def test_asked_in_a_loop_it_stops_answering(served: Gateway) -> None:
    with served.door("diagnose", lambda: at("diagnose")) as given:
        statuses = [served.answer(given.token)[0] for _ in range(gateway.RATE.burst + 5)]

    assert statuses == [200] * gateway.RATE.burst + [429] * 5


def test_one_step_that_asks_in_a_loop_silences_no_other(served: Gateway) -> None:
    with (
        served.door("diagnose", lambda: at("diagnose")) as loud,
        served.door("diagnose", lambda: at("diagnose")) as quiet,
    ):
        for _ in range(gateway.RATE.burst + 1):
            served.answer(loud.token)

        assert served.answer(quiet.token)[0] == 200


def test_a_token_dies_with_its_step(served: Gateway, tmp_path: Path) -> None:
    with served.door("diagnose", lambda: at("diagnose")) as given:
        pass
    told = asked(served, given, tmp_path)

    assert (told.returncode, "not authenticated" in told.stderr) == (2, True)


def test_what_is_not_known_is_no_yes(served: Gateway, tmp_path: Path) -> None:
    def away() -> Standing:
        raise Unavailable("the database does not answer")

    with served.door("diagnose", away) as given:
        told = asked(served, given, tmp_path)

    assert (told.returncode, told.stdout) == (2, "")


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/v1/runs/r", 404), ("/v1/step?x", 404)])
def test_there_is_one_question_only(served: Gateway, path: str, status: int) -> None:
    with served.door("diagnose", lambda: at("diagnose")) as given:
        line = http.client.HTTPConnection("127.0.0.1", served.reach().address_port, timeout=10)
        line.request("GET", path, headers={"Authorization": f"Bearer {given.token}"})
        answer = line.getresponse()
        answer.read()
        line.close()

    assert answer.status == status


@pytest.mark.parametrize("words", [["gate"], ["gate", "open"], ["approve"]])
def test_the_program_does_nothing_else(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask.main(words) == 2
    assert "usage" in capsys.readouterr().err
