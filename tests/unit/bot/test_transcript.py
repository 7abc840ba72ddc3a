"""What an agent did stands in its attempt's message: each call, each refusal, and what it claims."""

from __future__ import annotations

import dataclasses
import json

from bot.views import messages, transcript
from engine.domain.gate import Json
from engine.domain.incident import AttemptView
from engine.domain.states import AttemptState
from tests.doubles import incidents as told

PRINTED = """\
agent: How full is the disk? <!channel>
> run on target: df -P /srv
  exit code 0
  stdout:
  > not a call of its own
  refused: not a refusal of ours
  ! refused: nor this
> read {"path": "/run/secrets/key"}
! refused: read of /run/secrets/key is not allowed: only /step/out/**
agent: I can tell.
"""


def attempt(stdout: str = PRINTED, output: Json = None) -> AttemptView:
    made = told.attempt("diagnose", AttemptState.FINISHED, 5, target="production", stdout=stdout)
    return dataclasses.replace(made, output=output)


def shown(one: AttemptView) -> str:
    run = told.run(attempts=(one,))
    message = messages.attempt(told.incident(run), run, one, "https://box.test")
    return json.dumps(message.blocks, ensure_ascii=False)


def test_calls_and_refusals_are_shown_and_what_commands_printed_is_not() -> None:
    assert transcript.moves(attempt()) == (
        "> run on target: df -P /srv",
        '> read {"path": "/run/secrets/key"}',
        "! refused: read of /run/secrets/key is not allowed: only /step/out/**",
    )
    assert "refused: read of /run/secrets/key" in shown(attempt())


def test_many_calls_keep_the_first_and_the_last() -> None:
    calls = [f"> run on vm: step-{number}" for number in range(40)]
    lines = transcript.moves(attempt("\n".join(["agent: I begin", *calls])))

    assert len(lines) == transcript.MOST + 1
    assert (lines[0], lines[-1]) == (calls[0], calls[-1])
    assert "… 26 more" in lines


def test_what_it_claims_is_said_field_by_field_and_pings_nobody() -> None:
    text = shown(attempt(output={"cause": "unknown", "evidence": ["a <!here>", "b"], "path": "x" * 999}))

    assert "*It claims*\\n• cause: unknown\\n• evidence: a &lt;!here&gt;; b\\n• path: xxx" in text
    assert "<!here>" not in text


def test_a_script_is_shown_as_it_printed() -> None:
    text = shown(attempt("/srv 96%\nlog_growth\n", {"cause": "log_growth"}))

    assert "/srv 96%" in text
    assert "It claims" not in text
