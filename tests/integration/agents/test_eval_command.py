"""`signalbox agent eval` as a person types it: the real loop, proxy, policy and gate; the model is a tape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.agents.replay import ReplayServer, ScriptedModel, call, say
from engine.agents.replay.recording import Recorder
from engine.cli import cli
from tests.doubles.situations import STUCK, WELL, write_runbook

TAPE = """
format: signalbox-tape/v1
conversations:
  - key: Find out why the service does not answer
    turns:
      - expects: ['"unit": "web"']
        says: I look at the service first.
        calls:
          - {id: look, tool: run, args: {on: target, argv: [systemctl, status, web]}}
          - {id: away, tool: run, args: {on: target, argv: [systemctl, stop, web]}}
        usage: {input: 1200, output: 60}
      - expects: ["web.service: STATE", "/(?i)stop/"]
        calls:
          - {id: done, tool: finish, args: {cause: CAUSE}}
        usage: {input: 1500, output: 20}
"""
MODELS = """
careful: {api: API, model: some-model, url: "URL", price: {input: 3, output: 15}}
"""
Typed = Callable[..., Result]


@pytest.fixture(name="typed")
def a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """The command, with two situations and their tapes; of `well` the tape claims what its situation says."""
    (tmp_path / "runbooks").mkdir()
    write_runbook(tmp_path / "runbooks", {"stuck": STUCK, "well": WELL})
    (tmp_path / "tapes").mkdir()
    (tmp_path / "tapes/stuck.yaml").write_text(TAPE.replace("STATE", "deactivating").replace("CAUSE", "stuck"))
    (tmp_path / "tapes/well.yaml").write_text(TAPE.replace("STATE", "active").replace("CAUSE", "unknown"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGNALBOX_RUNBOOKS", str(tmp_path / "runbooks"))
    monkeypatch.setenv("SIGNALBOX_MODELS", str(tmp_path / "models.yaml"))
    return lambda *words: CliRunner().invoke(cli, ["agent", "eval", *words])


def test_with_tapes(typed: Typed) -> None:
    """Each situation with its tape, at the price of the file of models."""
    Path("models.yaml").write_text(MODELS.replace("API", "anthropic").replace("URL", "http://127.0.0.1:1"))
    said = typed("diagnose", "--replay", "tapes", "-v")

    assert said.exit_code == 0, said.output
    stuck, well = (line.split() for line in said.stdout.splitlines()[2:4])
    assert stuck[:6] == ["stuck", "right", "held", "2", "2780", "$0.0093"]
    assert well[:6] == ["well", "right", "inconclusive", "2", "2780", "$0.0093"]
    assert (stuck[7:], well[7:]) == (["1", "0"], ["1", "0"])
    assert said.stdout.splitlines()[-1] == "2 of 2 passed (100 %)"
    assert "I look at the service first." in said.stderr


@pytest.mark.parametrize("api", ["openai", "openai-responses"])
def test_a_tape_in_the_other_formats(typed: Typed, api: str) -> None:
    """That of the step's model."""
    Path("models.yaml").write_text(MODELS.replace("API", api).replace("URL", "http://127.0.0.1:1"))
    said = typed("diagnose", "--replay", "tapes", "--only", "stuck")

    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[2].split()[:6] == ["stuck", "right", "held", "2", "2780", "$0.0093"]


def test_without_a_file_of_models(typed: Typed) -> None:
    """A tape needs none; then nobody knows what it would cost."""
    said = typed("example/diagnose", "--replay", "tapes", "--only", "stuck")

    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[2].split()[:6] == ["stuck", "right", "held", "2", "2780", "-"]


def test_what_does_not_pass(typed: Typed) -> None:
    """Exit code 1 below --at-least, and why."""
    tape = Path("tapes/well.yaml")
    tape.write_text(tape.read_text().replace("unknown", "stuck"))
    few = typed("diagnose", "--replay", "tapes", "--only", "well", "--at-least", "0")
    said = typed("diagnose", "--replay", "tapes", "--only", "well")

    assert (few.exit_code, said.exit_code) == (0, 1)
    assert "well: wrong: not out.cause ==" in said.stdout
    assert "0 of 1 passed (0 %); 1 wrong with a gate that holds" in said.stdout


def test_a_tape_that_does_not_fit(typed: Typed) -> None:
    """What was expected and what came; it is no pass, whatever else the agent said."""
    tape = Path("tapes/stuck.yaml")
    tape.write_text(tape.read_text().replace("deactivating", "gone"))
    said = typed("diagnose", "--replay", "tapes", "--only", "stuck")

    assert said.exit_code == 1
    assert "stuck: broken: not on the tape: stuck.yaml" in said.stdout
    assert "expected 'web.service: gone'" in said.stdout


def test_a_live_model(typed: Typed) -> None:
    """The step's, of the file of models; a situation at a time."""
    finish = call("finish", {"cause": "stuck"})
    with ReplayServer(ScriptedModel([finish])) as live:
        Path("models.yaml").write_text(MODELS.replace("API", "anthropic").replace("URL", live.url))
        said = typed("diagnose", "--only", "stuck", "--times", "2")

    assert said.exit_code == 0, said.output
    assert len(live.requests) == 2
    assert said.stdout.splitlines()[-1] == "2 of 2 passed (100 %)"


def test_a_live_run_that_was_recorded_is_replayed(typed: Typed) -> None:
    """The tape is written while the live model works, and tells the same without it."""
    looks = say("I look.", call("run", {"on": "target", "argv": ["systemctl", "status", "web"]}))
    script = ScriptedModel([looks, call("finish", {"cause": "stuck"})])
    tape = Path("recorded/stuck.yaml")
    tape.parent.mkdir()
    with (
        ReplayServer(script, key="the-providers-key") as live,
        ReplayServer(Recorder(live.url, "the-providers-key", tape)) as recording,
    ):
        Path("models.yaml").write_text(MODELS.replace("API", "anthropic").replace("URL", recording.url))
        recorded = typed("diagnose", "--only", "stuck")
    replayed = typed("diagnose", "--only", "stuck", "--replay", "recorded")

    assert (recorded.exit_code, replayed.exit_code) == (0, 0), (recorded.output, replayed.output, tape.read_text())
    assert replayed.stdout.splitlines()[2].split()[:6] == recorded.stdout.splitlines()[2].split()[:6]
    assert "deactivating" in tape.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "no runbook has an agent's step 'nothing'"),
        (["example/staging"], "example has no agent's step 'staging'"),
        (["fix"], "there is no situation in example/evals/fix/"),
        (["diagnose", "--only", "else"], "there is no situation 'else'\n  -> there is stuck, well"),
    ],
)
def test_what_cannot_be_tried(typed: Typed, words: list[str], told: str) -> None:
    """One clear line."""
    said = typed(*words)

    assert said.exit_code == 1
    assert told in said.output


def test_no_model_of_that_name(typed: Typed) -> None:
    """The row says what to add where."""
    said = typed("diagnose", "--only", "stuck")

    assert said.exit_code == 1
    assert "no model is named 'careful'" in said.stdout
