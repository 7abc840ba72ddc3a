"""How each outbox row becomes a message. `Sender` calls `Delivery.carry_out` and reports what came of it.

A row names its topic and subject; what is shown is read from the database at the moment of sending, so that a late
row shows the truth of now. Rows of one incident are carried out one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from weakref import WeakValueDictionary

import structlog
from slack_sdk.errors import SlackApiError

from bot.crossing import ask
from bot.options import BotOptions
from bot.slack.channels import Channels
from bot.slack.troubles import Kind, read
from bot.slack.workspace import Workspace
from bot.views import messages, story
from bot.views.escape import is_user
from bot.views.render import Message
from engine.domain.incident import ApprovalView, EscalationView, IncidentView, MessageRef, OutboxItem, RunView, Topic
from engine.domain.states import ApprovalState
from engine.service import Service

log = structlog.get_logger(__name__)

Refs = dict[str, MessageRef]
IN_THE_FEED = ":feed"
LOOK_BACK_S = 300
""" How far before a row was written we look for its message: clocks differ. """


def card_key(incident_id: str) -> str:
    """Under which key the card's message is kept."""
    return f"card:{incident_id}"


def feed_key(incident_id: str) -> str:
    """Under which key the incident's line in the feed is kept."""
    return f"feed:{incident_id}"


class Undeliverable(Exception):
    """This row can never be shown; the message says why."""


class Delivery:
    """Carries out one row; raises what Slack calls raise, `Paced`, `Undeliverable`, and the service's errors."""

    def __init__(self, service: Service, workspace: Workspace, channels: Channels, options: BotOptions) -> None:
        self._service = service
        self._workspace = workspace
        self._channels = channels
        self._base = options.public_url
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ways: Mapping[Topic, Callable[[OutboxItem, IncidentView], Awaitable[Refs]]] = {
            Topic.CARD: self._card,
            Topic.FEED: self._feed,
            Topic.LEG_REPORTED: self._leg_reported,
            Topic.GATE_REPORTED: self._gate_reported,
            Topic.APPROVAL: self._approval,
            Topic.ESCALATION: self._escalation,
            Topic.APPROVAL_REMINDER: self._approval_reminder,
            Topic.ESCALATION_REMINDER: self._escalation_reminder,
            Topic.ALERT_CHANGED: self._alert_changed,
            Topic.RUN_ENDED: self._run_ended,
            Topic.NOTE_WRITTEN: self._note_written,
        }

    async def carry_out(self, item: OutboxItem) -> Refs:
        """Post or edit what this row is about; returns the references to keep."""
        lock = self._locks.setdefault(item.incident_id, asyncio.Lock())
        async with lock:
            incident = await ask(self._service.incident, item.incident_id)
            try:
                return await self._ways[item.topic](item, incident)
            except LookupError as error:
                raise Undeliverable(f"{item.topic} {error} is not in incident {incident.number}") from error

    # -- one way a topic

    async def _card(self, _item: OutboxItem, incident: IncidentView) -> Refs:
        before = await self._channels.of(incident)
        if before is None and not self._has_a_home(incident):
            return {}  # its line in the feed is all there is, until it has a run
        channel = await self._channels.ensure(incident)
        kept = await ask(self._service.ref, card_key(incident.id))
        message = await self._drawn_card(incident)
        if kept is None or await self._edit(kept, card_key(incident.id), message) is None:
            await self._ensure_card(incident, channel, message)
        line = await ask(self._service.ref, feed_key(incident.id))
        if line and before is None:  # now the feed can say where the incident lives
            drawn = self._drawn(incident, "state", lambda: messages.feed(incident, self._base, channel))
            await self._edit(line, feed_key(incident.id), drawn)
        return {}

    async def _feed(self, item: OutboxItem, incident: IncidentView) -> Refs:
        own = await self._channels.of(incident)
        message = self._drawn(incident, "state", lambda: messages.feed(incident, self._base, own))
        return await self._show(item, feed_key(incident.id), await self._channels.feed(), message)

    async def _leg_reported(self, item: OutboxItem, incident: IncidentView) -> Refs:
        run, attempt = story.attempt(incident, item.subject)
        message = self._drawn(incident, "attempt", lambda: messages.attempt(incident, run, attempt, self._base))
        channel = await self._channels.ensure(incident)
        card = await ask(self._service.ref, card_key(incident.id))
        if card is None:
            card = await self._ensure_card(incident, channel, await self._drawn_card(incident))
        return await self._show(item, f"attempt:{attempt.id}", card.channel, message, thread_ts=card.ts)

    async def _gate_reported(self, item: OutboxItem, incident: IncidentView) -> Refs:
        run, verdict = story.verdict(incident, item.subject)
        message = self._drawn(incident, "gate", lambda: messages.gate(incident, run, verdict, self._base))
        return await self._show_at_home(item, incident, f"gate:{verdict.id}", message)

    async def _approval(self, item: OutboxItem, incident: IncidentView) -> Refs:
        run, approval = story.approval(incident, item.subject)
        message = self._drawn(incident, "approval", lambda: messages.approval(incident, run, approval, self._base))
        refs = await self._show_at_home(item, incident, f"approval:{approval.id}", message)
        for key, ref, link in await self._reminders(f"approval:{approval.id}", incident):
            await self._edit(ref, key, self._drawn_approval_reminder(incident, run, approval, link))
        return refs

    async def _escalation(self, item: OutboxItem, incident: IncidentView) -> Refs:
        run, raised = story.escalation(incident, item.subject)
        message = self._drawn(incident, "decision", lambda: messages.escalation(incident, run, raised, self._base))
        refs = await self._show_at_home(item, incident, f"escalation:{raised.id}", message)
        for key, ref, link in await self._reminders(f"escalation:{raised.id}", incident):
            named = key.endswith(IN_THE_FEED)
            await self._edit(ref, key, self._drawn_escalation_reminder(incident, run, raised, link, named=named))
        return refs

    async def _approval_reminder(self, item: OutboxItem, incident: IncidentView) -> Refs:
        run, approval = story.approval(incident, item.subject)
        if approval.state is not ApprovalState.PENDING:
            return {}  # answered meanwhile
        link = await self._link_to(f"approval:{approval.id}", incident)
        message = self._drawn_approval_reminder(incident, run, approval, link)
        return await self._show_at_home(item, incident, item.key, message)

    async def _escalation_reminder(self, item: OutboxItem, incident: IncidentView) -> Refs:
        """In the incident's channel; and in the feed, for those who left it."""
        run, raised = story.escalation(incident, item.subject)
        if not raised.is_open:
            return {}  # answered meanwhile
        link = await self._link_to(f"escalation:{raised.id}", incident)
        message = self._drawn_escalation_reminder(incident, run, raised, link, named=False)
        told = await self._show_at_home(item, incident, item.key, message)
        await ask(self._service.keep_ref, item.key, told[item.key])  # the second may fail: then this is not repeated
        feed = await self._channels.feed()
        if told[item.key].channel == feed:
            return told
        message = self._drawn_escalation_reminder(incident, run, raised, link, named=True)
        return {**told, **await self._show(item, item.key + IN_THE_FEED, feed, message)}

    async def _alert_changed(self, item: OutboxItem, incident: IncidentView) -> Refs:
        event = story.event(incident, item.subject)
        message = self._drawn(incident, "alert", lambda: messages.alert_changed(event))
        return await self._show_at_home(item, incident, item.key, message)

    async def _run_ended(self, item: OutboxItem, incident: IncidentView) -> Refs:
        run = story.run(incident, item.subject)
        message = self._drawn(incident, "end of the run", lambda: messages.run_ended(incident, run, self._base))
        return await self._show_at_home(item, incident, f"ended:{run.id}", message)

    async def _note_written(self, item: OutboxItem, incident: IncidentView) -> Refs:
        note = story.note(incident, item.subject)
        message = self._drawn(incident, "harness note", lambda: messages.note_written(incident, note, self._base))
        return await self._show_at_home(item, incident, f"note:{note.id}", message)

    # -- reminders: messages of their own, whose keys begin with that of the question

    async def _reminders(self, question: str, incident: IncidentView) -> list[tuple[str, MessageRef, str]]:
        """What was posted to remind of this question, with the link that it shows.

        It must not go on asking when there is an answer.
        """
        refs = await ask(self._service.refs_under, f"{question}:")
        link = await self._link_to(question, incident) if refs else ""
        return [(key, ref, link) for key, ref in refs.items()]

    def _drawn_approval_reminder(
        self, incident: IncidentView, run: RunView, approval: ApprovalView, link: str
    ) -> Message:
        now = datetime.now(UTC)
        return self._drawn(
            incident,
            "an approval that expires",
            lambda: messages.approval_reminder(incident, run, approval, link=link, now=now),
        )

    def _drawn_escalation_reminder(
        self, incident: IncidentView, run: RunView, raised: EscalationView, link: str, *, named: bool
    ) -> Message:
        now = datetime.now(UTC)
        return self._drawn(
            incident,
            "a decision that is awaited",
            lambda: messages.escalation_reminder(incident, run, raised, link=link, now=now, named=named),
        )

    async def _link_to(self, question: str, incident: IncidentView) -> str:
        """Where the question stands in Slack; the incident's page where its message is gone."""
        ref = await ask(self._service.ref, question)
        if ref is not None:
            try:
                return await self._workspace.permalink(ref.channel, ref.ts)
            except SlackApiError as error:
                if read(error).kind not in {Kind.GONE, Kind.LOST, Kind.REFUSED}:
                    raise
        return messages.url(self._base, incident)

    # -- posting and editing

    async def _drawn_card(self, incident: IncidentView) -> Message:
        switch = await ask(self._service.kill_switch)
        return self._drawn(incident, "state", lambda: messages.card(incident, switch, self._base))

    @staticmethod
    def _has_a_home(incident: IncidentView) -> bool:
        """Whether it gets a channel of its own: it has a run, or a person declared it and wants to talk about it."""
        return bool(incident.runs) or is_user(incident.opened_by)

    def _drawn(self, incident: IncidentView, what: str, draw: Callable[[], Message]) -> Message:
        """The message; one bare line when our own check refuses it, because people must be reached."""
        try:
            return draw()
        except Exception as error:  # the rim: whatever our own drawing trips over, people must be reached
            log.exception("message_not_drawn", incident=incident.number, what=what, problem=str(error))
            return messages.bare(incident, what, self._base)

    async def _show_at_home(self, item: OutboxItem, incident: IncidentView, key: str, message: Message) -> Refs:
        """In the incident's channel; an incident without one lives in its thread of the feed."""
        if self._has_a_home(incident) or await self._channels.of(incident):
            try:
                channel = await self._channels.ensure(incident)
            except SlackApiError as error:
                if read(error).kind is not Kind.REFUSED:
                    raise
                log.error("no_channel_so_told_in_the_feed", code=read(error).code, topic=item.topic)
                channel = await self._channels.feed()
            return await self._show(item, key, channel, message)
        line = await ask(self._service.ref, feed_key(incident.id))
        return await self._show(item, key, await self._channels.feed(), message, thread_ts=line.ts if line else "")

    async def _show(self, item: OutboxItem, key: str, channel: str, message: Message, *, thread_ts: str = "") -> Refs:
        """Edit the message of this key when there is one, otherwise post it: once, whatever happened before."""
        kept = await ask(self._service.ref, key)
        if kept is not None:
            edited = await self._edit(kept, key, message)
            if edited is not None:
                return edited
        if item.ambiguous and (found := await self._look(item, channel, key, thread_ts)):
            ref = MessageRef(channel=channel, ts=found)
            await self._replace(ref, message)
            return {key: ref}
        return {key: await self._post(item, channel, message, key, thread_ts)}

    async def _look(self, item: OutboxItem, channel: str, key: str, thread_ts: str) -> str | None:
        """Whether an earlier try arrived after all. A channel that is gone shows nothing to anybody."""
        try:
            return await self._workspace.find(channel, key, item.created_at.timestamp() - LOOK_BACK_S, thread_ts)
        except SlackApiError as error:
            if read(error).kind not in {Kind.GONE, Kind.LOST}:
                raise
            return None

    async def _ensure_card(self, incident: IncidentView, channel: str, message: Message) -> MessageRef:
        """The card is wanted by many rows, so whichever comes first posts it: after a look, and kept at once."""
        key = card_key(incident.id)
        found = await self._workspace.find(channel, key, incident.opened_at.timestamp() - LOOK_BACK_S)
        ts = found or await self._workspace.post(channel, message, key)
        ref = MessageRef(channel=channel, ts=ts)
        await ask(self._service.keep_ref, key, ref)
        if found:
            await self._replace(ref, message)
        return ref

    async def _edit(self, kept: MessageRef, key: str, message: Message) -> Refs | None:
        """Replace the kept message; None when somebody deleted it, so that it is posted anew."""
        try:
            await self._replace(kept, message)
        except SlackApiError as error:
            trouble = read(error)
            if trouble.kind is Kind.LOST:
                return None
            if trouble.kind is not Kind.GONE:
                raise
            log.warning("edit_of_a_message_in_a_lost_channel", key=key, code=trouble.code)
        return {key: kept}

    async def _replace(self, ref: MessageRef, message: Message) -> None:
        try:
            await self._workspace.edit(ref.channel, ref.ts, message)
        except SlackApiError as error:
            if read(error).kind is not Kind.PAYLOAD or not message.blocks:
                raise
            log.error("slack_refused_the_blocks", code=read(error).code)
            await self._workspace.edit(ref.channel, ref.ts, message.plainly())

    async def _post(self, item: OutboxItem, channel: str, message: Message, key: str, thread_ts: str) -> MessageRef:
        """Post; plainly when Slack refuses the blocks, in the feed when the channel is gone."""
        try:
            return MessageRef(channel=channel, ts=await self._workspace.post(channel, message, key, thread_ts))
        except SlackApiError as error:
            trouble = read(error)
            if trouble.kind is Kind.PAYLOAD and message.blocks:
                log.error("slack_refused_the_blocks", topic=item.topic, code=trouble.code)
                return await self._post(item, channel, message.plainly(), key, thread_ts)
            if trouble.kind is Kind.LOST and thread_ts:
                return await self._post(item, channel, message, key, "")
            if trouble.kind not in {Kind.GONE, Kind.REFUSED}:
                raise
            return await self._post_elsewhere(item, channel, message, key, trouble.code)

    async def _post_elsewhere(
        self, item: OutboxItem, channel: str, message: Message, key: str, code: str
    ) -> MessageRef:
        if code == "not_in_channel":
            await self._workspace.join(channel)
            return MessageRef(channel=channel, ts=await self._workspace.post(channel, message, key))
        feed = await self._channels.feed()
        if channel == feed or item.topic is Topic.LEG_REPORTED:
            raise Undeliverable(f"the channel is gone ({code})")
        log.warning("channel_gone_so_told_in_the_feed", channel=channel, code=code, topic=item.topic)
        return MessageRef(channel=feed, ts=await self._workspace.post(feed, message, key))
