"""The whole program killed with -9 twice: while it diagnoses, and while it changes production, with Slack down too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from demo import plays
from demo.stage import Stage
from demo.world.target import PRODUCTION
from engine.domain.states import AttemptState, Decision, IncidentState, RunState
from tests.acceptance import sampler, telling
from tests.plugins_vm import URI

POLL_S = 120
SLACK_AWAY_S = 40
QUIET_S = 15
""" So long nothing may happen by itself; the sweep looks every second. """


@dataclass
class Killed:
    """What was seen around one kill. `before`: at the moment after it; `after`: when the new process had settled."""

    before: list[AttemptState] = field(default_factory=list)
    after: list[AttemptState] = field(default_factory=list)
    vm_survived_the_kill: bool = False
    vm_after_the_start: bool = False
    tokens_left_alive: set[str] = field(default_factory=set)
    tokens_alive_after: set[str] = field(default_factory=set)
    tokens_not_buried: set[str] = field(default_factory=set)


@dataclass
class Killing:
    """What was recorded of the play."""

    diagnose: Killed = field(default_factory=Killed)
    production: Killed = field(default_factory=Killed)
    effects: list[int] = field(default_factory=list)
    writers: list[int] = field(default_factory=list)
    asked: str = ""
    questions: int = 0
    raised_while_slack_was_down: bool = False
    waiting_while_slack_was_down: int = 0
    outbox: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    end: RunState = RunState.NEW
    live_tokens: tuple[object, ...] = ()
    left_behind: tuple[str, ...] = ()


def tell() -> Killing:
    """Play it: about seven minutes."""
    seen = Killing()

    def look_after(stage: Stage) -> None:
        seen.left_behind = stage.left_behind()

    with telling.stage(after=look_after) as stage:
        _while_diagnosing(seen, stage)
        asked, _ = plays.approval(stage)
        _while_changing_production(seen, stage, asked)
        _nothing_by_itself(seen, stage)
        _end(seen, stage, newer_than=asked["ts"])
    return seen


def _while_diagnosing(seen: Killing, stage: Stage) -> None:
    telling.wait(lambda: _started(stage, "diagnose"), plays.ALERT_S, "diagnose to start")
    attempt = _started(stage, "diagnose")
    telling.wait(lambda: _vm(attempt), POLL_S, "its VM")
    with _kill(seen.diagnose, stage, "diagnose", attempt):
        stage.say("killed while it diagnosed")
    telling.wait(lambda: _states(stage, "diagnose")[1:] == [AttemptState.FINISHED], POLL_S, "the second try")
    seen.diagnose.after = _states(stage, "diagnose")
    seen.diagnose.vm_after_the_start = _vm(attempt)


def _while_changing_production(seen: Killing, stage: Stage, asked: plays.Message) -> None:
    target = stage.world.targets[PRODUCTION]
    plays.press(stage, asked, "approval.approve")
    telling.wait(lambda: plays.writers(stage, PRODUCTION), POLL_S, "production to be entered")
    # the fix compresses the old log after it took effect: some seconds in which the step is not over yet
    telling.wait(target.effects, POLL_S, "production to be changed")
    attempt = _started(stage, "production")
    with _kill(seen.production, stage, "production", attempt):
        stage.say("killed while it changed production; Slack is down, too")
        sampler.pause(URI, attempt)  # it would end itself, since nobody is at the other end of its line
        stage.driver.fault("down", seconds=SLACK_AWAY_S)
        back = time.monotonic() + SLACK_AWAY_S
    telling.wait(lambda: telling.rows(stage, "escalation"), POLL_S, "the question")
    seen.raised_while_slack_was_down = time.monotonic() < back
    seen.waiting_while_slack_was_down = sum(row["state"] != "sent" for row in telling.rows(stage, "outbox"))
    message, _ = plays.escalation(stage, newer_than=asked["ts"])
    seen.asked = stage.driver.text(message)
    seen.production.vm_after_the_start = _vm(attempt)


def _nothing_by_itself(seen: Killing, stage: Stage) -> None:
    """The changed target as it is now, and as it is after a while in which nobody decided."""
    target = stage.world.targets[PRODUCTION]
    for _ in range(2):
        seen.effects.append(target.effects())
        seen.writers.append(plays.writers(stage, PRODUCTION))
        seen.production.after = _states(stage, "production")
        time.sleep(QUIET_S)
    seen.live_tokens = stage.live_tokens()


def _end(seen: Killing, stage: Stage, newer_than: str) -> None:
    message, _ = plays.escalation(stage, newer_than=newer_than)
    messages = stage.driver.messages(message["channel"])
    seen.questions = sum("escalation.decide.retry" in stage.driver.buttons(each) for each in messages)
    plays.decide(stage, message, Decision.TAKE_OVER)
    plays.until(stage, lambda: plays.run(stage).state is RunState.TAKEN_OVER, "automation to end")
    plays.close(stage)
    plays.until(stage, lambda: plays.incident_state(stage) is IncidentState.CLOSED, "the incident to close")
    telling.wait(
        lambda: all(row["state"] == "sent" for row in telling.rows(stage, "outbox")), POLL_S, "every message to leave"
    )
    seen.end = plays.run(stage).state
    seen.outbox = telling.rows(stage, "outbox")
    messages = stage.driver.messages(message["channel"])
    seen.texts = [stage.driver.text(each) for top in messages for each in (top, *top["replies"])]


@contextmanager
def _kill(killed: Killed, stage: Stage, leg: str, attempt: str) -> Iterator[None]:
    """Kill the program, look at what it left, let the caller do more harm, start it again and look once more."""
    stage.kill_signalbox()
    killed.before = _states(stage, leg)
    killed.vm_survived_the_kill = _vm(attempt)
    killed.tokens_left_alive = {
        row["accessor"] for row in telling.rows(stage, "vault_token") if row["revoked_at"] is None
    }
    yield
    stage.start_signalbox()
    telling.wait(lambda: _states(stage, leg) != killed.before, POLL_S, "recovery")
    with stage.administrator() as administrator:
        alive = {token.accessor for token in administrator.live_accessors()}
    killed.tokens_alive_after = alive & killed.tokens_left_alive
    killed.tokens_not_buried = {
        row["accessor"] for row in telling.rows(stage, "vault_token") if row["revoked_at"] is None
    } & killed.tokens_left_alive


def _attempts(stage: Stage, leg: str) -> list[dict[str, Any]]:
    rows = [row for row in telling.rows(stage, "attempt") if row["leg"] == leg]
    return sorted(rows, key=lambda row: str(row["started_at"]))


def _states(stage: Stage, leg: str) -> list[AttemptState]:
    return [AttemptState(row["state"]) for row in _attempts(stage, leg)]


def _started(stage: Stage, leg: str) -> str:
    """The id of the attempt of this leg that is under way, or nothing."""
    return next((str(row["id"]) for row in _attempts(stage, leg) if row["state"] == "started"), "")


def _vm(attempt: str) -> bool:
    return any(sampler.works_for(xml, attempt) for xml in sampler.descriptions(URI))
