"""A sender with fake surroundings, and the rows that its tests send."""

from __future__ import annotations

import dataclasses
import itertools

from bot.options import BotOptions
from bot.slack.channels import Channels
from bot.slack.delivery import Delivery
from bot.slack.pacing import Pace
from bot.slack.sender import Sender
from bot.slack.workspace import Workspace
from engine.domain.incident import IncidentView, OutboxItem, Topic
from tests.doubles.service import FakeService, Outcome, row
from tests.doubles.slack import FakeChannel, FakeSlack


class Town:
    """A sender with its fake surroundings."""

    def __init__(
        self,
        *views: IncidentView,
        feed: str = "signalbox",
        invite: tuple[str, ...] = ("U0ALICE1",),
        pace: Pace | None = None,
    ) -> None:
        self.service = FakeService(*views)
        self.slack = FakeSlack()
        options = BotOptions(public_url="https://box.test", feed_channel=feed, invite=invite)
        minutes = itertools.count(0, 60)
        unhurried = Pace(clock=lambda: float(next(minutes)))  # a minute goes by between any two calls
        workspace = Workspace(self.slack, pace or unhurried)
        channels = Channels(self.service, workspace, options)
        self.sender = Sender(self.service, Delivery(self.service, workspace, channels, options))

    async def send(self, item: OutboxItem) -> Outcome:
        """Send one row; returns what became of it."""
        await self.sender.send(item)
        return self.service.outcomes[item.key][-1]

    async def insist(self, item: OutboxItem) -> Outcome:
        """Send a row as the outbox would, again and again, until it is done."""
        for attempts in range(5):
            outcome = await self.send(dataclasses.replace(item, attempts=attempts))
            item = dataclasses.replace(item, ambiguous=outcome.ambiguous)
            if outcome.state != "later":
                return outcome
        return outcome

    def channel(self) -> FakeChannel:
        return self.slack.named("inc-12-disk-srv-on-checkout-1-is-96-full")

    def shown(self) -> list[str]:
        """The texts in the incident's channel."""
        return [message["text"] for message in self.channel().messages]


CARD = row(Topic.CARD, "inc-a1")
FEED = row(Topic.FEED, "inc-a1")
APPROVAL = row(Topic.APPROVAL, "approval-1")
GATE = row(Topic.GATE_REPORTED, "verdict-staging-ok")
LEG = row(Topic.LEG_REPORTED, "attempt-staging")
