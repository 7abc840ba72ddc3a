"""One real alert, from Alertmanager to a gated production fix: what was recorded of it, fact by fact."""

from __future__ import annotations

import itertools
import json
from datetime import datetime

import pytest

from demo import plays
from demo.workspace.server import ANA, BEN, CLEO
from demo.world.target import PRODUCTION, STAGING
from engine.domain.incident import AttemptView, VerdictView
from engine.domain.states import ApprovalState, AttemptState, RunState, Verdict
from tests.acceptance.story import Story

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

WRITERS = ("operator",)


def attempt(story: Story, leg: str) -> AttemptView:
    """The one attempt of a leg."""
    [found] = [each for each in story.run.attempts if each.leg == leg]
    return found


def verdict(story: Story, leg: str) -> VerdictView:
    """What a gate last said."""
    return [each for each in story.run.verdicts if each.leg == leg][-1]


def ended(each: AttemptView) -> datetime:
    """When it ended."""
    assert each.ended_at is not None
    return each.ended_at


def incident_channel(story: Story) -> list[str]:
    """Every text of the incident's channel, its threads included."""
    [name] = [name for name in story.channels if name.startswith("inc-1-")]
    return story.channels[name]


def test_the_alert_came_from_alertmanager_firing_and_then_resolved(story: Story) -> None:
    """Its own webhook, authenticated, each body kept once and read."""
    bodies = [json.loads(row["body"]) for row in story.rows["inbox"]]

    assert {row["source"] for row in story.rows["inbox"]} == {"alertmanager"}
    assert {row["state"] for row in story.rows["inbox"]} == {"done"}
    assert [bodies[0]["status"], bodies[-1]["status"]] == ["firing", "resolved"]
    assert bodies[0]["receiver"] == "signalbox"
    assert bodies[0]["alerts"][0]["labels"]["alertname"] == "CheckoutDiskFilling"
    assert story.run.inputs == {"env": "production", "mount": "/srv"}


def test_the_run_completed_and_every_gate_held(story: Story) -> None:
    assert story.run.state is RunState.COMPLETED
    assert {each.leg for each in story.run.verdicts} == {
        "diagnosis-confirmed",
        "staging:rollback-gate",
        "tests-pass",
        "production-healthy",
    }
    assert {each.verdict for each in story.run.verdicts} == {Verdict.HELD}
    assert {each.state for each in story.run.attempts} == {AttemptState.FINISHED}


def test_staging_was_fixed_undone_and_fixed_again_before_production_was_touched(story: Story) -> None:
    legs = ["staging:rehearse", "staging:rollback", "staging", "production"]
    moments = [(attempt(story, leg).started_at, ended(attempt(story, leg))) for leg in legs]

    for (_, before), (after, _) in itertools.pairwise(moments):
        assert before <= after


def test_production_was_changed_only_after_the_gate_held_and_a_person_approved(story: Story) -> None:
    """In this order: staging ended, its gate measured and held, the question, the yes, the change, its own gate."""
    [approval] = story.run.approvals
    assert approval.state is ApprovalState.CONSUMED
    assert approval.decided_by is not None
    assert approval.decided_by.id == BEN.id
    assert approval.decided_at is not None
    order = [
        ended(attempt(story, "staging")),
        verdict(story, "tests-pass").begun_at,
        verdict(story, "tests-pass").ended_at,
        approval.requested_at,
        approval.decided_at,
        attempt(story, "production").started_at,
        ended(attempt(story, "production")),
        verdict(story, "production-healthy").begun_at,
    ]
    assert order == sorted(order)


def test_what_was_applied_is_what_was_tested_and_approved(story: Story) -> None:
    [approval] = story.run.approvals
    digests = {attempt(story, leg).content_digest for leg in ("staging:rehearse", "staging", "production")}

    assert digests == {approval.order.content_digest}


def test_production_let_one_writer_in_once_and_its_effect_counter_says_one(story: Story) -> None:
    """Told by sshd's own log and by a line that the fix leaves, which names the attempt."""
    writers = [login for login in story.accepted[PRODUCTION] if login.user in WRITERS]
    assert len(writers) == 1

    [line] = story.effects[PRODUCTION].splitlines()
    at, by = line.split()
    assert by == attempt(story, "production").id
    moment = datetime.fromisoformat(at)
    started = attempt(story, "production").started_at.replace(microsecond=0)
    assert started <= moment <= ended(attempt(story, "production"))


def test_staging_was_really_changed_by_the_attempts_that_say_so(story: Story) -> None:
    by = [line.split()[1] for line in story.effects[STAGING].splitlines()]

    assert by == [attempt(story, "staging:rehearse").id, attempt(story, "staging").id]


def test_whoever_may_not_approve_was_told_so_and_nothing_came_of_it(story: Story) -> None:
    deciders = {row["decided_by"] for row in story.rows["approval"]}
    assert deciders == {BEN.id}
    assert not [event for event in story.events if event.actor == CLEO.id]
    assert any(f"<@{BEN.id}>" in text and f"<@{ANA.id}>" in text for text in incident_channel(story))


def test_the_channel_shows_it_all(story: Story) -> None:
    """The gates with what they measured, the question and its answer, the end with its timeline, the note."""
    said = "\n".join(incident_channel(story))

    for words in (
        "diagnosis confirmed",
        "tests pass",
        "production healthy",
        "Approved",
        "Timeline",
        "Every gate held",
        plays.NOTE["what"],
        plays.NOTE["rule"],
        f"<@{BEN.id}>",
    ):
        assert words in said, words
    for check in verdict(story, "production-healthy").checks:
        assert check.check_id in said


def test_every_message_left_once_and_the_feed_heard_of_it(story: Story) -> None:
    assert {row["state"] for row in story.rows["outbox"]} == {"sent"}
    texts = incident_channel(story)
    long = [text for text in texts if len(text) > 40]
    assert len(long) == len(set(long)), "a message was posted twice"
    assert story.channels["incidents"]


def test_the_note_became_a_patch_with_a_rule_and_a_test(story: Story) -> None:
    """That it applies is proved while the play goes on."""
    assert "+++ b/agents.md" in story.patch
    assert plays.NOTE["rule"] in story.patch
    assert "tests/regressions/hn-" in story.patch


def test_every_token_was_revoked_and_proved_dead_and_none_lives_at_the_end(story: Story) -> None:
    tokens = story.rows["vault_token"]

    assert len(tokens) > 8
    assert all(row["revoked_at"] for row in tokens)
    assert story.live_tokens == ()
    kinds = [event.kind for event in story.events]
    assert kinds.count("secret_minted") == kinds.count("secret_revoked") == len(tokens)
    assert "secret_read" in kinds


def test_nothing_is_left_behind(story: Story) -> None:
    """No process that knows the demo's folder, no VM with its mark."""
    assert story.left_behind == []


@pytest.mark.parametrize("moment", ["at once", "at rest"])
def test_the_same_click_again_changes_nothing_and_a_forged_or_stale_one_is_401(story: Story, moment: str) -> None:
    """Three copies are acknowledged (Slack would send them again otherwise) and change no row."""
    assert story.replays[moment] == [200, 200, 200, 401, 401]
    assert story.changed_by_replays[moment] == []
    assert [event.kind for event in story.events].count("approved") == 1
