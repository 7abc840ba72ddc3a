"""Every template with ordinary, empty and hostile data: within Slack's limits, and nothing breaks out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from bot.views import marks, messages, modals, story
from bot.views.limits import Json
from bot.views.render import HERE, Message
from engine.domain.incident import EscalationView, EventView, IncidentView, NoteView, Person
from engine.domain.states import ApprovalState, AttemptState, Decision, IncidentState, RunState, Verdict
from tests.doubles import incidents as told

BASE = "https://box.test"
OURS = re.compile(
    r"<(?:!date\^\d+\^[^<>|]+\|[^<>|]+|https://box\.test/[^<>|]*\|[^<>]+|@[UW][A-Z0-9]+|!subteam\^S[A-Z0-9]+|#C[A-Z0-9]+)>"
)
""" The only angle brackets that may leave: our dates, our links, and mentions of configured ids. """


def everything(incident: IncidentView) -> Iterator[tuple[str, Message]]:
    """Every message that this incident can lead to."""
    yield "card", messages.card(incident, told.OFF, BASE)
    yield "card, stopped", messages.card(incident, dataclasses.replace(told.ON, reason=incident.title), BASE)
    yield "list, stopped", messages.incidents([], dataclasses.replace(told.ON, reason=incident.title), BASE)
    yield "feed", messages.feed(incident, BASE, "C0INC12")
    yield "feed without a channel", messages.feed(incident, BASE, None)
    yield "usage", messages.usage(["`/signalbox list`"], BASE, incident.title)
    yield "bare", messages.bare(incident, incident.title, BASE)
    for event in incident.events[:1]:
        yield "alert changed", messages.alert_changed(event)
    for note in incident.notes:
        yield "note", messages.note_written(incident, note, BASE)
    for run in incident.runs:
        yield "ended", messages.run_ended(incident, run, BASE)
        for attempt in run.attempts:
            yield f"attempt {attempt.state}", messages.attempt(incident, run, attempt, BASE)
        for verdict in run.verdicts:
            yield f"gate {verdict.verdict}", messages.gate(incident, run, verdict, BASE)
        for approval in run.approvals:
            yield f"approval {approval.state}", messages.approval(incident, run, approval, BASE)
            yield "reminder", messages.approval_reminder(incident, run, approval, link=f"{BASE}/p1", now=told.at(900))
        for escalation in run.escalations:
            yield f"escalation {escalation.decided}", messages.escalation(incident, run, escalation, BASE)
            for named in (True, False):
                yield "reminder", reminder_of(escalation, incident=incident, run=run, named=named)


def reminder_of(escalation: EscalationView, *, named: bool = False, **changes: Any) -> Message:
    """The reminder of an escalation, an hour after it was raised."""
    incident = changes.get("incident") or told.halted()
    run = changes.get("run") or incident.runs[0]
    now = escalation.raised_at + timedelta(hours=1)
    return messages.escalation_reminder(incident, run, escalation, link=f"{BASE}/p1", now=now, named=named)


def texts(value: Any) -> Iterator[str]:
    """Every string that Slack would draw."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "text" and isinstance(inner, str):
                yield inner
            else:
                yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


STORIES: dict[str, Callable[[], IncidentView]] = {
    "ordinary": told.incident,
    "unknown": told.unknown,
    "halted": told.halted,
    "completed": told.completed,
    "empty": told.empty,
    "hostile": told.hostile,
    "hostile and long": lambda: told.hostile(told.HOSTILE * 40),
    "ten thousand letters": lambda: told.hostile("x" * 10_000),
    "ten thousand ampersands": lambda: told.hostile("&" * 10_000),
    "ten thousand emoji": lambda: told.hostile("🚒" * 10_000),
    "nothing but spaces": lambda: told.hostile("   \n\t "),
}


@pytest.mark.parametrize("name", STORIES)
def test_every_message_stays_within_what_slack_accepts(name: str) -> None:
    """`message` raises when Slack would refuse; here every template meets every kind of data."""
    for _ in everything(STORIES[name]()):
        pass


@pytest.mark.parametrize("name", ["hostile", "hostile and long"])
def test_no_untrusted_text_mentions_links_or_breaks_out(name: str) -> None:
    """What is left of a hostile text is text: no broadcast, no mention, no link, no bidi override, no loose fence."""
    for kind, message in everything(STORIES[name]()):
        for text in (message.text, *texts(list(message.blocks))):
            left = OURS.sub("", text)
            assert "<" not in left, (kind, text)
            assert ">" not in left, (kind, text)
            assert not re.search(r"@(here|channel|everyone)\b", text), (kind, text)
            assert not re.search("[\x00-\x08\x0e-\x1f\u202a-\u202e\u2066-\u2069]", text), (kind, text)
            assert text.count("```") % 2 == 0, (kind, text)


def test_a_hostile_text_cannot_start_a_line_of_its_own() -> None:
    """A title with a line break cannot forge a line that says that a gate held."""
    message = messages.card(told.hostile(), told.OFF, BASE)

    assert not any(line.startswith("*Gate held*") for text in texts(list(message.blocks)) for line in text.split("\n"))


def test_every_expression_of_a_json_template_ends_in_tojson() -> None:
    """JSON has no autoescape, so a value that does not pass tojson could break the view."""
    found = 0
    for path in sorted((HERE / "slack").glob("*.json.j2")):
        for expression in re.findall(r"{{(.*?)}}", path.read_text(), re.DOTALL):
            found += 1
            assert re.search(r"\|\s*tojson\s*$", expression), f"{path.name}: {expression}"
    assert found > 50


def block(message: Message, kind: str) -> Json:
    return next(block for block in message.blocks if block["type"] == kind)


def test_an_approval_names_the_people_what_was_tested_and_both_buttons() -> None:
    incident = told.incident()
    run = incident.runs[0]
    message = messages.approval(incident, run, run.approvals[0], BASE)
    seen = "\n".join(texts(list(message.blocks)))

    assert "<@U0ALICE1> <@U0BOB22>" in seen
    assert "Staging is well held" in seen
    assert "4 of 4 checks held" in seen
    assert "4f7c1e0b9a2d" in seen
    ids = [e["action_id"] for e in block(message, "actions")["elements"]]
    assert ids == ["approval.approve", "approval.reject", "approval.extend"]
    assert {e["value"] for e in block(message, "actions")["elements"]} == {"tok-approve"}


def test_the_buttons_of_an_approval_stand_before_its_preview() -> None:
    """On a phone the decision must not be below the fold."""
    incident = told.incident()
    run = incident.runs[0]
    kinds = [
        "preview" if "```" in str(block) else block["type"]
        for block in messages.approval(incident, run, run.approvals[0], BASE).blocks
    ]

    assert kinds.index("actions") < kinds.index("preview")


@pytest.mark.parametrize("state", ["approved", "consumed", "rejected", "expired", "voided"])
def test_an_answered_approval_has_no_buttons_and_says_who(state: str) -> None:
    incident = told.incident()
    approval = told.approval(ApprovalState(state), reason="the artefact changed")
    message = messages.approval(incident, incident.runs[0], approval, BASE)
    seen = "\n".join(texts(list(message.blocks)))

    assert not any(block["type"] == "actions" for block in message.blocks)
    assert "<@U0ALICE1>" in seen
    assert "the artefact changed" in seen


def test_an_approval_says_when_no_gate_has_held_before_it() -> None:
    incident = told.incident(told.run(verdicts=()))
    run = incident.runs[0]

    assert "no gate has held" in str(messages.approval(incident, run, run.approvals[0], BASE).blocks)


def test_an_escalation_has_one_button_an_option_and_asks_twice_before_the_grave_ones() -> None:
    incident = told.halted()
    run = incident.runs[0]
    buttons = block(messages.escalation(incident, run, run.escalations[0], BASE), "actions")["elements"]

    assert {b["action_id"]: "confirm" in b for b in buttons} == {
        "escalation.decide.retry": False,
        "escalation.decide.roll_back": True,
        "escalation.decide.take_over": False,
        "escalation.decide.abandon": True,
        "escalation.extend": False,
    }


def test_a_decided_escalation_has_no_buttons_and_says_who_decided_what() -> None:
    incident = told.halted()
    decided = told.escalation(Decision.ROLL_BACK)
    message = messages.escalation(incident, incident.runs[0], decided, BASE)

    assert not any(block["type"] == "actions" for block in message.blocks)
    assert "Roll back" in message.text
    assert "Decided by <@U0ALICE1>" in str(message.blocks)


BEN = Person(id="U0BOB22", name="ben")


def buttons(message: Message) -> list[str]:
    """The action_ids of a message, wherever they are."""
    return re.findall(r"'action_id': '([^']+)'", str(message.blocks))


def test_an_approval_that_got_more_time_says_until_when_and_from_whom() -> None:
    incident = told.incident()
    message = messages.approval(incident, incident.runs[0], told.approval(extended_by=BEN), BASE)

    assert "<@U0BOB22> gave it more time: it expires <!date^" in str(message.blocks)


def test_a_reminder_of_an_approval_says_when_it_expires_and_leads_to_the_question() -> None:
    """The buttons that decide stay on the one message that shows what they bind."""
    incident = told.incident()
    message = messages.approval_reminder(
        incident, incident.runs[0], told.approval(), link=f"{BASE}/p1", now=told.at(1000 - 299)
    )
    seen = "\n".join(texts(list(message.blocks)))

    assert "<@U0ALICE1> <@U0BOB22>" in seen
    assert "|03:18 UTC> (in 4 min)" in seen
    assert "<https://box.test/p1|" in seen
    assert buttons(message) == ["approval.extend"]


@pytest.mark.parametrize("state", ["approved", "rejected", "expired"])
def test_a_reminder_of_an_approval_that_was_answered_asks_nobody(state: str) -> None:
    incident = told.incident()
    approval = told.approval(ApprovalState(state))
    message = messages.approval_reminder(incident, incident.runs[0], approval, link=BASE, now=told.at(0))

    assert buttons(message) == []
    assert "<@" not in str(message.blocks)


@pytest.mark.parametrize("named", [True, False])
def test_a_reminder_of_a_halt_names_who_is_asked_and_leads_to_the_question(named: bool) -> None:
    message = reminder_of(told.escalation(), named=named)
    seen = "\n".join(texts(list(message.blocks)))

    assert "<!subteam^S0ONCALL> <@U0ALICE1> <@U0BOB22>, <https://box.test/p1|please decide>" in seen
    assert "Halted for 1 h 0 min" in seen
    assert ("#12" in seen) is named
    assert buttons(message) == ["escalation.extend"]


def test_a_reminder_of_a_halt_that_somebody_is_at_or_answered_says_so_and_asks_nobody() -> None:
    at_it = reminder_of(told.escalation(at_it=BEN, remind_at=told.at(9000)))
    decided = reminder_of(told.escalation(Decision.RETRY))
    anew = reminder_of(told.escalation(expired_at=told.at(1)))

    assert "<@U0BOB22> is at it" in str(at_it.blocks)
    assert buttons(decided) == buttons(anew) == []
    for message in (at_it, decided, anew):
        assert "<!subteam" not in str(message.blocks)


def test_an_escalation_that_was_put_anew_says_so_without_buttons() -> None:
    incident = told.halted()
    message = messages.escalation(incident, incident.runs[0], told.escalation(expired_at=told.at(1)), BASE)

    assert "put anew" in str(message.blocks)
    assert buttons(message) == []
    assert "<@" not in str(message.blocks)


def test_an_escalation_says_who_is_at_it() -> None:
    incident = told.halted()
    raised = told.escalation(at_it=BEN, remind_at=told.at(9000))
    message = messages.escalation(incident, incident.runs[0], raised, BASE)

    assert "<@U0BOB22> is at it: no reminder before <!date^" in str(message.blocks)


def test_the_kill_switch_is_said_on_the_card_and_the_list_while_it_is_on() -> None:
    for switch in (told.OFF, told.ON):
        for message in (messages.card(told.incident(), switch, BASE), messages.incidents([], switch, BASE)):
            assert ("The kill switch is on*, thrown by <@U0ALICE1> <!date^" in str(message.blocks)) is switch.on
            assert ("a flood of alerts" in str(message.blocks)) is switch.on


def test_a_run_that_is_queued_says_what_it_waits_for() -> None:
    waits = told.run(RunState.QUEUED, waits_for="incident 7, which holds a target that this run needs")

    assert "waits for incident 7" in story.now(told.incident(waits))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "now"), (40, "in less than a minute"), (299, "in 4 min"), (4800, "in 1 h 20 min")],
)
def test_how_long_is_left_is_said_in_words(seconds: float, words: str) -> None:
    assert story.left(told.at(seconds), told.T0) == words


def test_a_gate_report_shows_each_check_with_what_was_measured() -> None:
    incident = told.halted()
    run = incident.runs[0]
    seen = "\n".join(texts(list(messages.gate(incident, run, told.HEALTH_FAILED, BASE).blocks)))

    assert "Gate Production is well failed" in seen
    assert '`{"status": 500, "ms": 3}`' in seen
    assert "1 of 3 checks held" in seen


def test_a_claim_is_told_apart_from_an_independent_check() -> None:
    incident = told.incident()
    seen = "\n".join(texts(list(messages.gate(incident, incident.runs[0], told.STAGING_OK, BASE).blocks)))

    assert seen.count("_(its own claim)_") == 1


def test_the_feed_offers_runbooks_only_while_there_is_no_run() -> None:
    assert block(messages.feed(told.unknown(), BASE, None), "actions")["block_id"] == "choose:tok-choose"
    assert not any(b["type"] == "actions" for b in messages.feed(told.incident(), BASE, None).blocks)


def test_the_feed_says_what_to_do_when_no_runbook_loads() -> None:
    message = messages.feed(dataclasses.replace(told.unknown(), runbooks=()), BASE, None)

    assert "signalbox doctor" in str(message.blocks)


def test_a_long_timeline_says_how_much_it_left_out() -> None:
    incident = told.hostile("one line of a long timeline, with quite some words in it")
    message = messages.run_ended(incident, incident.runs[0], BASE)

    assert re.search(r"… and \d+ more", str(message.blocks))


@pytest.mark.parametrize("name", STORIES)
def test_both_modals_stay_within_what_slack_accepts(name: str) -> None:
    incident = STORIES[name]()

    steps = story.note_steps(incident)
    texts = {"what": incident.title, "rule": incident.title}
    modals.note(12, incident.title, steps, "{}", banner=incident.title, texts=texts)
    modals.reject("{}", reason=incident.title, banner=incident.title)


def test_the_harness_note_asks_for_each_step_once_and_keeps_what_was_typed() -> None:
    steps = story.note_steps(told.completed())
    view = modals.note(12, "Disk", steps, "{}", marks={"fix": "skipped"}, texts={"what": "It guessed."})
    asked = {b["block_id"]: b["element"]["initial_option"]["value"] for b in view["blocks"] if "step:" in str(b)}
    what = next(b for b in view["blocks"] if b.get("block_id") == "what")

    assert [name for name in asked if "staging" in name] == ["step:staging", "step:staging-ok"]
    assert asked["step:fix"] == "skipped"
    assert asked["step:diagnose"] == "followed"
    assert what["element"]["initial_value"] == "It guessed."


def test_what_is_going_on_is_one_sentence_in_every_state() -> None:
    for state in RunState:
        incident = told.incident(told.run(state, ended_at=told.at(61), escalations=(told.escalation(),)))
        assert "\n" not in story.now(incident)
        assert story.now(incident)


def test_every_state_mark_and_verdict_has_a_sign_of_its_own() -> None:
    for kind in (RunState, AttemptState, ApprovalState, IncidentState, Verdict):
        for each in kind:
            assert each in marks.NAMES


def test_a_note_without_drift_says_so() -> None:
    note: NoteView = dataclasses.replace(told.NOTE, steps={"fix": "followed"}, patch="")

    assert "Every step was followed" in str(messages.note_written(told.completed(), note, BASE).blocks)


def test_a_note_says_the_command_that_prints_its_patch() -> None:
    note: NoteView = dataclasses.replace(told.NOTE, id="7")

    assert "`signalbox harness show 7`" in str(messages.note_written(told.completed(), note, BASE).blocks)


def test_a_changed_alert_says_when_and_from_whom() -> None:
    event: EventView = told.events()[0]

    assert "from alertmanager" in str(messages.alert_changed(event).blocks)


def test_the_timeline_leaves_acts_with_secrets_to_the_page() -> None:
    incident = told.incident()
    minted = dataclasses.replace(incident.events[0], kind="secret_minted", text="A step token was minted.")
    incident = dataclasses.replace(incident, events=(*incident.events, minted))
    seen = "\n".join(texts(list(messages.run_ended(incident, incident.runs[0], BASE).blocks)))

    assert "token was minted" not in seen
    assert incident.events[0].text[:20] in seen
