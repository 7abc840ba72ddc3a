"""What people see who are asked about one call of an agent."""

from __future__ import annotations

import dataclasses

from bot.views import messages
from tests.doubles import incidents as told

BASE = "https://signalbox.example"


def test_a_yes_to_a_call_says_that_it_is_one_and_shows_the_call_whole() -> None:
    incident, shown = told.incident(), "systemctl status " + "&" * 300
    asked = told.approval(of_a_call=True)
    asked = dataclasses.replace(asked, order=dataclasses.replace(asked.order, lines={"Call": shown}, preview=shown))
    text = str(messages.approval(incident, incident.runs[0], asked, BASE).blocks)

    assert "one call of" in text
    assert "Allow this call?" in text
    assert "&amp;" * 300 in text
    assert "Tested" not in text
