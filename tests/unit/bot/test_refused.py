"""What a step tried and may not reach, as people see it: at the gate in Slack, at gate and attempt on the page."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bot.views import messages, story
from bot.views.render import Message, page
from engine.domain.gate import Json
from engine.domain.incident import IncidentView
from engine.domain.states import AttemptState, Verdict
from tests.doubles import incidents as told
from tests.unit.bot.conftest import Bot
from tests.unit.bot.test_messages import BASE, texts
from tests.unit.bot.test_pages import assert_harmless, get


def connection(host: str, port: int, error: str = "", count: int = 1) -> dict[str, Any]:
    """A row as an attempt keeps it: allowed without an error, or else refused for it."""
    told = {"bytes_up": 12, "bytes_down": 340, "seconds": 0.2} if not error else {"bytes_up": 0, "bytes_down": 0}
    return {"host": host, "port": port, "allowed": not error, "error": error, "count": count, **told}


def reaching() -> IncidentView:
    """A step before a gate tried what it may not reach."""
    undeclared = "not declared for this step"
    tried: list[Json] = [
        connection("staging", 22),
        connection("db.internal", 5432, "the name leads to 10.0.4.9, a private address"),
        connection("example.com", 443, undeclared, 3),
    ]
    ordinary = told.run()
    staging = dataclasses.replace(ordinary.attempts[1], connections=tried)
    return told.incident(dataclasses.replace(ordinary, attempts=(ordinary.attempts[0], staging)))


def gate_of(incident: IncidentView, connections: Any = None) -> Message:
    """The message of the gate after the step `staging`, which connected like this."""
    run = incident.runs[0]
    if connections is not None:
        staging = dataclasses.replace(run.attempts[1], connections=connections)
        run = dataclasses.replace(run, attempts=(run.attempts[0], staging))
    return messages.gate(incident, run, run.verdicts[1], BASE)


def test_a_gate_shows_what_its_step_tried_and_may_not_reach() -> None:
    """Each place once, with its number; most tried first; nothing of what was allowed, nothing of another step."""
    seen = list(texts(list(gate_of(reaching()).blocks)))
    (section,) = [each for each in seen if "may not reach" in each]
    assert section.splitlines() == [
        "*staging* tried what it may not reach:",
        "⛔ refused: `example.com:443` ×3 (not declared for this step)",
        "⛔ refused: `db.internal:5432` (the name leads to 10.0.4.9, a private address)",
    ]
    assert "refused" not in str(gate_of(told.incident()).blocks)
    run = reaching().runs[0]
    assert "refused" not in str(messages.gate(reaching(), run, run.verdicts[0], BASE).blocks)


def test_a_gate_speaks_of_the_attempt_that_it_judged() -> None:
    """Not of a later try of its step, nor of another step, nor of one that still runs."""
    tries = [
        dataclasses.replace(told.attempt(leg, AttemptState.FINISHED, start_s), id=f"{leg}-{start_s}")
        for leg, start_s in (("diagnose", 5), ("staging:rehearse", 30), ("staging", 50), ("other", 70), ("staging", 90))
    ]
    tries.append(told.attempt("staging", AttemptState.STARTED, 80))
    run = told.run(attempts=tuple(tries))

    def judged(of: str, ended_s: float) -> str:
        found = story.judged(run, told.verdict("g", of, Verdict.HELD, ended_s))
        return found.id if found else "none"

    assert judged("diagnose", 30) == "diagnose-5"
    assert judged("staging:rehearse", 60) == "staging:rehearse-30"
    assert [judged("staging", at_s) for at_s in (20, 60, 85, 100, 120)] == [
        *("none", "staging:rehearse-30", "staging-50", "staging-50", "staging-90"),
    ]


def test_what_older_releases_recorded_one_by_one_is_counted() -> None:
    row = {"host": "a.test", "port": 1, "allowed": False, "error": "not declared for this step"}
    seen = str(gate_of(told.incident(), [row, row, {"host": "b.test", "port": 2, "allowed": True}, row]).blocks)

    assert "`a.test:1` ×3 (not declared for this step)" in seen
    assert "b.test" not in seen


@pytest.mark.parametrize("text", ["x", told.HOSTILE, told.HOSTILE * 40, "`" * 99, "&" * 10_000])
def test_a_flood_of_refusals_is_bounded_and_escaped(text: str) -> None:
    """Its rows are made of what a guest asked for."""
    rows = [connection(f"{number}{text}", 443, text, number) for number in range(1, 500)]
    message = gate_of(told.incident(), rows)
    (section,) = [each for each in texts(list(message.blocks)) if "tried what it may not reach" in each]
    assert len(section) < 1100
    assert section.endswith("more on the dashboard")
    assert "<" not in section
    assert section.count("\n") == section.count("⛔ refused: ") + 1


@pytest.mark.parametrize("rows", [None, {}, "x", [7, None, {}, {"allowed": False}], [{"allowed": False, "count": "x"}]])
def test_a_record_that_is_odd_breaks_no_message(rows: Any) -> None:
    gate_of(told.incident(), rows)


async def test_a_page_shows_what_a_step_tried_and_may_not_reach_at_its_gate_and_its_attempt(bot: Bot) -> None:
    bot.service.views[12] = reaching()
    _, text = await get(bot, "/incidents/12")

    said = 'refused: <code>example.com:443</code> ×3 <span class="quiet">(not declared for this step)</span>'
    assert text.count(said) == 2
    assert "<b>staging</b> tried what it may not reach" in text


@pytest.mark.parametrize("text", [told.HOSTILE, "x" * 300])
def test_a_flood_of_refusals_on_a_page_is_bounded_and_harmless(text: str) -> None:
    rows: list[Json] = [connection(f"{number}{text}", 443, text, number) for number in range(1, 500)]
    incident = reaching()
    staging = dataclasses.replace(incident.runs[0].attempts[1], connections=rows)
    run = dataclasses.replace(incident.runs[0], attempts=(staging,))
    html = page("incident.html.j2", incident=dataclasses.replace(incident, runs=(run,)), switch=told.OFF)

    assert_harmless(html)
    assert html.count("refused: <code>") == 40
    assert html.count("… and 479 more places") == 2
