"""Cause unknown: what was looked at, what is likely and what one could try stand beside the question, as a claim."""

from __future__ import annotations

import dataclasses
import json

from bot.views import advice, messages
from engine.domain.gate import Json
from engine.domain.incident import IncidentView
from engine.domain.states import AttemptState, Decision, RunState, Verdict
from tests.doubles import incidents as told

BASE = "https://box.test"
UNKNOWN: dict[str, Json] = {
    "cause": "unknown",
    "looked_at": ["df -P /srv: 93 % used", "du: /srv/checkout/core holds 61 MB"],
    "likely": "core dumps of <!channel> the process (fairly sure)",
    "could_try": [f"step {number}" for number in range(9)],
}


def halted(output: Json) -> IncidentView:
    """A run that halted at the gate after `diagnose`, which said this."""
    diagnose = dataclasses.replace(told.attempt("diagnose", AttemptState.FINISHED, 10), output=output)
    gate = told.verdict("diagnosis-confirmed", "diagnose", Verdict.INCONCLUSIVE, 30)
    run = told.run(
        RunState.HALTED,
        leg="diagnosis-confirmed",
        attempts=(diagnose,),
        verdicts=(gate,),
        escalations=(told.escalation(leg="diagnosis-confirmed", why="cause: the step does not know"),),
    )
    return told.incident(run)


def shown(incident: IncidentView) -> str:
    run = incident.runs[0]
    return json.dumps(messages.escalation(incident, run, run.escalations[0], BASE).blocks, ensure_ascii=False)


def test_all_three_stand_beside_the_question() -> None:
    text = shown(halted(UNKNOWN))

    assert "*It looked at*\\n• df -P /srv: 93 % used\\n• du: /srv/checkout/core holds 61 MB" in text
    assert "*It thinks likely*" in text
    assert "• step 5\\n… and 3 more on the dashboard" in text


def test_what_a_step_says_pings_nobody() -> None:
    assert "<!channel>" not in shown(halted(UNKNOWN))


def test_what_is_no_text_is_passed_over() -> None:
    odd: Json = {"looked_at": [1, {"a": 2}, " ", "x" * 5000], "likely": 7, "could_try": []}
    run = halted(odd).runs[0]

    [part] = advice.of(run, run.escalations[0])
    assert part.lines == ("x" * advice.MOST_CHARACTERS,)


def test_a_step_that_says_nothing_of_it_adds_nothing() -> None:
    for output in ({"cause": "unknown"}, None, ["looked_at"]):
        run = halted(output).runs[0]  # type: ignore[arg-type]  # whatever a step printed
        assert advice.of(run, run.escalations[0]) == ()


def test_it_is_gone_once_somebody_decided() -> None:
    incident = halted(UNKNOWN)
    run = incident.runs[0]
    decided = told.escalation(Decision.TAKE_OVER, leg="diagnosis-confirmed")
    message = messages.escalation(incident, run, decided, BASE)

    assert "It looked at" not in json.dumps(message.blocks)
