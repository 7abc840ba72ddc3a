"""The demo played by itself: who presses what, and how each must end. One function a fault (demo/world/faults.py)."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.stage import Stage
from demo.tampering import WAYS, Tamper, vault_away
from demo.workspace.server import ANA, BEN, CLEO
from demo.world.faults import Fault
from demo.world.target import PRODUCTION, STAGING
from engine.domain.incident import ApprovalView, EscalationView, RunView
from engine.domain.states import ApprovalState, AttemptState, Decision, IncidentState, RunState, Verdict
from engine.store import models, views
from engine.store.session import Database

ALERT_S = 300
LEGS_S = 600
CHANNEL = r"inc-1-.*"

Message = dict[str, Any]


class NotAsItShould(Exception):
    """The demo did not end as it should."""


def must(holds: object, what: str) -> None:
    """Say what does not hold, and end the demo."""
    if not holds:
        raise NotAsItShould(what)


def play(stage: Stage) -> None:
    """Play the part for this stage's fault."""
    PLAYS[stage.fault](stage)
    must(not stage.live_tokens(), "a token of ours is alive although nothing runs")
    stage.say("no live token is left in OpenBao")


# -- looking


def run(stage: Stage) -> RunView:
    """The newest run, read from the database (which is the truth; Slack is a view of it)."""
    database = Database(f"sqlite:///{stage.home / 'signalbox.db'}")
    try:
        with database.reading() as session:
            row = session.query(models.Run).order_by(models.Run.opened_at.desc()).first()
            if row is None:
                raise NotAsItShould("no run was opened")
            return views.run(session, row, None, ())
    finally:
        database.close()


def incident_state(stage: Stage) -> IncidentState:
    """Whether the incident is open."""
    database = Database(f"sqlite:///{stage.home / 'signalbox.db'}")
    try:
        with database.reading() as session:
            return session.query(models.Incident).one().state
    finally:
        database.close()


def attempts(stage: Stage, leg: str) -> list[AttemptState]:
    """The states of this leg's attempts."""
    return [attempt.state for attempt in run(stage).attempts if attempt.leg == leg]


def verdict(stage: Stage, leg: str) -> Verdict | None:
    """What this gate last said."""
    found = [view.verdict for view in run(stage).verdicts if view.leg == leg]
    return found[-1] if found else None


def writers(stage: Stage, env: str) -> int:
    """How often this target's sshd let an operator in."""
    return sum(1 for accepted in stage.world.targets[env].accepted() if accepted.user == "operator")


# -- acting


def message_with(stage: Stage, action: str, timeout_s: float, newer_than: str = "") -> Message:
    """The newest message of the incident's channel that offers this button."""

    def offers(message: Message) -> bool:
        return action in stage.driver.buttons(message) and message["ts"] > newer_than

    return stage.driver.wait_for_message(CHANNEL, offers, timeout_s)


def approval(stage: Stage, newer_than: str = "") -> tuple[Message, ApprovalView]:
    """Wait for the question."""
    message = message_with(stage, "approval.approve", ALERT_S + LEGS_S, newer_than)
    return message, run(stage).approvals[-1]


def escalation(stage: Stage, newer_than: str = "", timeout_s: float = LEGS_S) -> tuple[Message, EscalationView]:
    """Wait until a person is asked."""
    message = message_with(stage, "escalation.decide.retry", timeout_s, newer_than)
    asked = run(stage).escalations[-1]
    stage.say(f"a person is asked: {asked.why[:160]}")
    return message, asked


def press(stage: Stage, message: Message, action: str, user: str = BEN.id) -> None:
    """Press a button, and see it acknowledged."""
    outcome = stage.driver.click(message, action, user=user)
    must(outcome.ok, f"{action} was not acknowledged: {outcome.seen or outcome.status}")


def decide(stage: Stage, message: Message, decision: Decision) -> None:
    """Press one of the escalation's buttons."""
    stage.say(f"pressing: {decision.value.replace('_', ' ')}")
    press(stage, message, f"escalation.decide.{decision.value}")


def until(stage: Stage, holds: Callable[[], object], what: str, timeout_s: float = LEGS_S) -> None:
    """Wait for something in the database; the workspace's changes tell when to look."""
    stage.driver.wait_for(lambda: holds() or None, timeout_s, what)


def said(stage: Stage, words: str, timeout_s: float = 60) -> Message:
    """Wait until the incident's channel (or a thread of it) says this."""
    return stage.driver.wait_for_message(CHANNEL, lambda m: words.lower() in stage.driver.text(m).lower(), timeout_s)


# -- the parts


def as_it_should(stage: Stage) -> None:
    """The alert is fixed: staging first, production after a held gate and a click; the alert resolves by itself."""
    asked, order = asked_for_approval(stage)
    press(stage, asked, "approval.approve")
    carried_out(stage, order)
    resolved(stage)
    write_note(stage)
    note_has_a_patch(stage)


def asked_for_approval(stage: Stage) -> tuple[Message, ApprovalView]:
    """Staging is fixed and measured, production untouched, and somebody who may not approve cannot."""
    stage.say("waiting for the alert: the disks fill, Prometheus watches, Alertmanager posts")
    asked, order = approval(stage)
    stage.say("staging is fixed and measured; asked for approval")
    must(verdict(stage, "tests-pass") is Verdict.HELD, "asked for approval although the gate did not hold")
    must(stage.world.targets[PRODUCTION].effects() == 0, "production was changed before the approval")
    must(writers(stage, PRODUCTION) == 0, "production let a writer in before the approval")
    must(stage.world.targets[STAGING].effects() >= 1, "staging was not changed before production")
    stage.driver.click(asked, "approval.approve", user=CLEO.id)
    said(stage, BEN.id)
    must(run(stage).state is RunState.AWAITING_APPROVAL, "somebody without the right to approve did")
    stage.say("Cleo may not approve, and was told who may; Ben approves")
    return asked, order


def carried_out(stage: Stage, order: ApprovalView) -> None:
    """After the yes: production is changed once, by exactly what was tested and approved, and every gate holds."""
    until(stage, lambda: run(stage).state is RunState.COMPLETED, "the run to complete")
    stage.say("production is changed and measured")
    view = run(stage)
    must(view.approvals[-1].state is ApprovalState.CONSUMED, "the approval was not consumed by the start")
    must(view.approvals[-1].decided_by is not None, "nobody is named for the approval")
    must(attempts(stage, "production") == [AttemptState.FINISHED], "production was not changed exactly once")
    must(stage.world.targets[PRODUCTION].effects() == 1, "the effect counter on production does not say 1")
    digests = {a.leg: a.content_digest for a in view.attempts}
    must(digests["staging"] == digests["production"] == order.order.content_digest, "not what was tested was applied")


def resolved(stage: Stage) -> None:
    """The alert resolves by itself, and that closes the incident."""
    until(stage, lambda: incident_state(stage) is IncidentState.CLOSED, "the alert to resolve by itself", ALERT_S)
    stage.say("the alert resolved by itself; the incident is closed")


NOTE = {
    "what": "diagnose looked at the largest file only, not at how fast it grew",
    "change": "let it look twice, a few seconds apart",
    "rule": "Diagnose growth by two looks, never by one.",
}


def write_note(stage: Stage) -> None:
    """Ana fills the harness note's form."""
    message = message_with(stage, "note.open", 60)
    press(stage, message, "note.open", ANA.id)
    form = stage.driver.wait_for_view(ANA.id, lambda view: view["callback_id"] == "note.write", 10)
    values: dict[str, dict[str, Any]] = {
        block["block_id"]: {block["element"]["action_id"]: "followed"}
        for block in form["blocks"]
        if block["type"] == "input" and block["block_id"].startswith("step:")
    }
    values["step:diagnose"] = {"mark": "drifted"}
    values |= {name: {"text": text} for name, text in NOTE.items()}
    outcome = stage.driver.submit(form, values, user=ANA.id)
    must(outcome.ok, f"the harness note was not taken: {outcome.seen} {outcome.errors}")


def note_has_a_patch(stage: Stage) -> str:
    """The note stands in the channel, and its patch applies; returns the patch."""
    said(stage, "Diagnose growth by two looks")
    patch = stage.cli("harness", "show", "1")
    with tempfile.TemporaryDirectory() as folder:
        agents = Path(folder, "agents.md")
        agents.write_bytes(Path(stage.environ()["SIGNALBOX_AGENTS_MD"]).read_bytes())
        subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=folder, check=True)
        must("two looks" in agents.read_text(), "the patch adds no rule")
        must(list(Path(folder).glob("tests/regressions/hn-*.json")), "the patch adds no regression fixture")
    stage.say("the harness note is there, and its patch applies")
    return patch


def cause_unknown(stage: Stage) -> None:
    """No known cause: inconclusive, and a person works by hand."""
    asked, _ = escalation(stage, timeout_s=ALERT_S + LEGS_S)
    must(verdict(stage, "diagnosis-confirmed") is Verdict.INCONCLUSIVE, "the diagnosis gate was not inconclusive")
    must(not attempts(stage, "staging:rehearse"), "something was changed without a diagnosis")
    said(stage, "inconclusive")
    if stage.agents:
        said(stage, "You could try")
        stage.say("the agent said what it looked at, what is likely and what one could try")
    decide(stage, asked, Decision.TAKE_OVER)
    until(stage, lambda: run(stage).state is RunState.TAKEN_OVER, "automation to end")
    close(stage)


def staging_fails(stage: Stage) -> None:
    """The fix does not work on staging: production is untouched, provably."""
    production = stage.world.targets[PRODUCTION]
    before = production.tree()
    asked, _ = escalation(stage, timeout_s=ALERT_S + LEGS_S)
    must(verdict(stage, "tests-pass") is Verdict.FAILED, "the staging gate did not fail")
    must(run(stage).state is RunState.HALTED, "the run did not halt")
    must(not attempts(stage, "production"), "there is an attempt on production")
    must(writers(stage, PRODUCTION) == 0, "production's sshd accepted a write credential")
    must(production.tree() == before, "production's data changed")
    stage.say("production is untouched: no attempt, no writer let in, the same tree")
    decide(stage, asked, Decision.ABANDON)
    until(stage, lambda: incident_state(stage) is IncidentState.CLOSED, "abandon to close the incident")
    must(run(stage).state is RunState.ABANDONED, "the run was not abandoned")


def no_data(stage: Stage) -> None:
    """Prometheus dies before the health gate: inconclusive, not held."""
    asked, _ = approval(stage)
    stage.world.kill_prometheus()
    stage.say("Prometheus is dead; approving")
    press(stage, asked, "approval.approve")
    halted, _ = escalation(stage, newer_than=asked["ts"])
    must(verdict(stage, "production-healthy") is Verdict.INCONCLUSIVE, "no data was not inconclusive")
    must(run(stage).state is RunState.HALTED, "the run went on without data")
    decide(stage, halted, Decision.TAKE_OVER)
    until(stage, lambda: run(stage).state is RunState.TAKEN_OVER, "automation to end")
    close(stage)


def production_fails(stage: Stage) -> None:
    """The health gate fails: a click rolls back, and the gate after the rollback holds."""
    asked, _ = approval(stage)
    press(stage, asked, "approval.approve")
    halted, view = escalation(stage, newer_than=asked["ts"])
    must(verdict(stage, "production-healthy") is Verdict.FAILED, "the health gate did not fail")
    must(Decision.ROLL_BACK in view.options, "rolling back is not offered")
    must(not attempts(stage, "production:rollback"), "it rolled back by itself")
    decide(stage, halted, Decision.ROLL_BACK)
    until(stage, lambda: run(stage).state is RunState.ROLLED_BACK, "the rollback's gate to hold")
    must(verdict(stage, "production:rollback-gate") is Verdict.HELD, "the gate after the rollback did not hold")
    close(stage)


def tampering(stage: Stage) -> None:
    """What was approved is changed, before the click and after it: refused each time, the approval void."""
    newest = ""
    for tamper in WAYS:
        for after in (False, True):
            asked, view = approval(stage, newest)
            when = "after" if after else "before"
            stage.say(f"tampering with the {getattr(tamper, '__name__', '')} {when} the click")
            _tampered(stage, asked, tamper, after=after)
            halted, _ = escalation(stage, newer_than=asked["ts"])
            voided = next(a for a in run(stage).approvals if a.id == view.id)
            must(voided.state is ApprovalState.VOIDED, f"the approval is {voided.state}, not void")
            must(not attempts(stage, "production"), "production was touched")
            newest = halted["ts"]
            decide(stage, halted, Decision.RETRY)
    asked, _ = approval(stage, newest)
    press(stage, asked, "approval.approve")
    until(stage, lambda: run(stage).state is RunState.COMPLETED, "the untouched order to be carried out")
    must(stage.world.targets[PRODUCTION].effects() == 1, "the effect counter on production does not say 1")


def _tampered(stage: Stage, asked: Message, tamper: Tamper, *, after: bool) -> None:
    if not after:
        with tamper(stage):
            stage.driver.click(asked, "approval.approve", user=BEN.id)
            until(stage, lambda: run(stage).state is RunState.HALTED, "the click to be refused")
        return
    with vault_away(stage):  # the run waits for it between the click and the start
        press(stage, asked, "approval.approve")
        until(stage, lambda: run(stage).approvals[-1].state is ApprovalState.APPROVED, "the approval")
        meddling = tamper(stage)
        meddling.__enter__()
    try:
        until(stage, lambda: run(stage).state is RunState.HALTED, "the start to be refused")
    finally:
        meddling.__exit__(None, None, None)


def close(stage: Stage) -> None:
    """A person ends the incident by hand."""
    outcome = stage.driver.command(channel_id(stage), "/signalbox close", user=ANA.id)
    must(outcome.ok, f"/signalbox close: {outcome.seen}")
    until(stage, lambda: incident_state(stage) is IncidentState.CLOSED, "the incident to close")


def channel_id(stage: Stage) -> str:
    """The incident channel."""
    found = stage.driver.channel(CHANNEL)
    must(found, "there is no incident channel")
    return str(found["id"]) if found else ""


PLAYS: dict[Fault, Callable[[Stage], None]] = {
    Fault.NONE: as_it_should,
    Fault.DIAGNOSIS: cause_unknown,
    Fault.STAGING: staging_fails,
    Fault.NODATA: no_data,
    Fault.PRODUCTION: production_fails,
    Fault.TAMPER: tampering,
}
