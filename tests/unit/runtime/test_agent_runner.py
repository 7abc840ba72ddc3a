"""An agent's VM is a script's, in which nothing runs of itself; its claim is held to the step's rule."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.domain import archive, digest
from engine.domain.agent import AgentRule, Budget
from engine.domain.errors import BadInput
from engine.domain.ports import Ending, SecretValue
from engine.domain.runbook import Access, ArtefactRule, Login, OutputRule, Script, Tool
from engine.runtime import session
from engine.runtime.runners.agent import AgentRunner
from engine.runtime.runners.by_tool import RunnerByTool
from engine.runtime.runners.script import ScriptRunner
from tests.unit.runtime.orders import FILES, SITE, STEP, order, result

RUNNER = AgentRunner()
BUDGET = Budget(requests=1, tokens=1, calls=1)
AGENT = replace(
    STEP,
    script=Script(file="data.txt", args=()),
    tool=Tool.AGENT,
    agent=AgentRule(model="careful", budget=BUDGET, context=("lib/tool.py",)),
    output=OutputRule(required=("cause",), enums={"cause": ("logs", "unknown")}),
)
KEY = SecretValue(name="key", value="-----BEGIN KEY-----\nx")


def test_its_vm_is_a_scripts_and_nothing_runs_of_itself() -> None:
    step = replace(AGENT, login=Login(user="reader", key="key"), produces=ArtefactRule(name="fix"))
    made = RUNNER.task(replace(order(step), site=SITE), (KEY,))
    session.check(made)
    script = ScriptRunner().task(replace(order(step), site=SITE), (KEY,))
    [ask] = [file for file in made.files if file not in script.files]
    assert made == replace(script, argv=("true",), files=(*script.files, ask))
    assert (ask.path, ask.mode) == ("/usr/local/bin/signalbox", 0o755)
    assert {f"/step/runbook/{path}" for path in FILES} <= {file.path for file in made.files}
    assert "/step/.ssh/config" in {file.path for file in made.files}
    assert made.collect == "/step/out"


@pytest.mark.parametrize(
    "change",
    [
        {"access": Access.WRITE},
        {"agent": None},
        {"agent": AgentRule(model="careful", budget=BUDGET, context=("missing.md",))},
        {"script": Script(file="missing.md", args=())},
    ],
)
def test_what_is_no_agents_order_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        RUNNER.task(order(replace(AGENT, **change)), ())


def test_the_claim_is_the_last_line_and_held_to_the_rule() -> None:
    """As the performer puts it there, whatever it holds."""
    claim = {"cause": "logs", "words": "two\nlines\u2028and \u00e9"}
    concluded = RUNNER.conclude(order(AGENT), result(stdout="a transcript\n" + json.dumps(claim)))
    assert (concluded.ok, concluded.output) == (True, claim)


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        (None, "the last line is JSON but not an object"),
        (["logs"], "the last line is JSON but not an object"),
        ("logs", "the last line is JSON but not an object"),
        ({}, "the output lacks cause"),
        ({"cause": "other"}, "the output's cause is none of logs, unknown"),
        ({"cause": ["logs"]}, "the output's cause is none of logs, unknown"),
        ({"cause": "logs", "x": float("nan")}, "the last line is not JSON"),
        ({"cause": "logs", "x": "\ud800"}, "the last line is not JSON"),
        ({"cause": "logs", "x": "x" * 70_000}, "the last line is longer than 65536 bytes"),
        ({"cause": "logs", "x": json.loads("[" * 32 + "]" * 32)}, "the last line is nested more than 32 deep"),
        (
            {"cause": "logs", "x": json.loads('{"a":' * 600 + "1" + "}" * 600)},
            "the last line is nested more than 32 deep",
        ),
    ],
)
def test_a_claim_that_does_not_conform_is_no_claim(claim: object, why: str) -> None:
    concluded = RUNNER.conclude(order(AGENT), result(stdout=json.dumps(claim)))
    assert (concluded.ok, concluded.reason, concluded.output) == (False, why, None)


def test_how_it_ended_is_said_of_the_agent() -> None:
    assert RUNNER.conclude(order(AGENT), result(stdout="")).reason == "the agent printed nothing"
    late = result(ending=Ending.TIMED_OUT, code=None, reason="no end within 60 s")
    assert RUNNER.conclude(order(AGENT), late).reason == "the agent did not end in time (no end within 60 s)"
    produces = replace(AGENT, output=None, produces=ArtefactRule(name="fix"))
    assert RUNNER.conclude(order(produces), result(files={})).reason == "the agent left no file in /step/out"


def test_its_artefact_is_what_it_left_to_the_byte() -> None:
    step = replace(AGENT, output=None, produces=ArtefactRule(name="fix"))
    concluded = RUNNER.conclude(order(step), result(files={"fix.json": b"{}"}))
    packed = archive.pack({"fix.json": b"{}"})
    assert (concluded.ok, concluded.artefact) == (True, packed)
    assert RUNNER.content(step, packed) == digest.of_bytes(packed)
    assert RUNNER.preview(step, packed) == "--- fix.json\n{}"


def test_an_agents_order_goes_to_it() -> None:
    assert RunnerByTool().task(order(AGENT), ()).argv == ("true",)
