"""What people are to be told: once, in order, by whichever bot comes first."""

from __future__ import annotations

import sqlalchemy as sa

from engine.domain.incident import OutboxItem, Topic
from engine.store import models
from tests.integration.engine.conftest import ANA, Box


def due(box: Box) -> dict[Topic, OutboxItem]:
    """What a bot would send now."""
    return {item.topic: item for item in box.service.outbox_due()}


def waiting(box: Box, topic: Topic) -> int:
    with box.database.reading() as session:
        query = sa.select(sa.func.count()).where(models.Outbox.topic == topic, models.Outbox.state == "pending")
        return session.scalar(query) or 0


def test_a_row_that_one_bot_sends_is_not_given_to_another(box: Box) -> None:
    box.fire()

    assert Topic.CARD in due(box)
    assert due(box) == {}


def test_what_a_dead_bot_was_sending_is_looked_for_and_sent_by_another(box: Box) -> None:
    box.fire()
    first = due(box)[Topic.FEED]
    box.clock.pass_time(seconds=61)
    again = due(box)[Topic.FEED]

    assert (first.ambiguous, again.ambiguous) == (False, True)
    assert (again.id, again.attempts) == (first.id, 1)


def test_a_bot_that_starts_takes_nothing_from_one_that_lives(box: Box) -> None:
    """On SQLite there is no other: what was being sent is due at once."""
    box.fire()
    due(box)
    box.service.outbox_recover()

    assert (Topic.CARD in due(box)) == (not box.database.is_shared)


def test_many_changes_leave_one_waiting_card(box: Box) -> None:
    box.until_approval()

    assert waiting(box, Topic.CARD) == 1


def test_what_changes_while_a_card_is_being_sent_makes_another(box: Box) -> None:
    box.until_approval()
    sending = due(box)[Topic.CARD]
    box.service.approve(box.run().approvals[-1].token, ANA, yes=True)
    assert waiting(box, Topic.CARD) == 1

    box.service.outbox_sent(sending, {})
    assert due(box)[Topic.CARD].id != sending.id
