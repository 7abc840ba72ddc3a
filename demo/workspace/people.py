"""What people do: press, choose, submit, close, type. The page and the driver both call it; the app hears of it.

A press is possible only on what is there now: an element of the stored message or of the open view.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from demo.workspace import choices, payloads
from demo.workspace.answers import Answers
from demo.workspace.api import Api
from demo.workspace.delivery import Answer, Delivery, Parcel, command_parcel, event_parcel, interaction_parcel
from demo.workspace.errors import CannotDo, Json
from demo.workspace.model import Channel, Message, Person

TEXT = 4_000
HANDLE = re.compile(r"(?<![\w@])@([a-z0-9][a-z0-9._-]{0,79})")
CHANNEL = re.compile(r"(?<![\w#])#([a-z0-9][a-z0-9_-]{0,79})")
FAILED = '{command} failed with the error "{problem}"'
TROUBLE = "We had some trouble connecting. Try again?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it. `seen`: what the person is told when it went wrong; `errors`: block_id -> sentence (modals)."""

    delivery: str = ""
    status: int = 0
    ms: int = 0
    body: str = ""
    seen: str = ""
    errors: dict[str, str] = field(default_factory=dict)


def _outcome(answer: Answer, seen: str = "", errors: dict[str, str] | None = None) -> Outcome:
    return Outcome(
        delivery=answer.delivery,
        status=answer.status,
        ms=answer.ms,
        body=answer.body,
        seen=seen or answer.problem,
        errors=errors or {},
    )


class People:
    """Acts of people. Every method returns one Outcome for each copy that was sent; effects follow the first."""

    def __init__(self, api: Api, delivery: Delivery, answers: Answers, commands: Collection[str]) -> None:
        self._api = api
        self._team = api.team
        self._delivery = delivery
        self._answers = answers
        self._commands = frozenset(commands)
        self.events: frozenset[str] = frozenset()

    # -- typing

    def escaped(self, text: str) -> str:
        """Typed text as it reaches apps: &, <, > escaped, handles and channels as references (should_escape)."""
        safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        handles = {person.name: person.id for person in self._team.everybody()}
        safe = HANDLE.sub(lambda m: f"<@{handles[m[1]]}>" if m[1] in handles else m[0], safe)

        def channel(match: re.Match[str]) -> str:
            found = self._team.by_name(match[1])
            return f"<#{found.id}|{found.name}>" if found else match[0]

        return CHANNEL.sub(channel, safe)

    def _inside(self, user: str, channel: str) -> tuple[Person, Channel]:
        person = self._team.person(user)
        found = self._team.channel_of(channel, user)
        if user not in found.members:
            raise CannotDo(f"{person.name} is not in #{found.name}: join it first")
        if found.is_archived:
            raise CannotDo(f"#{found.name} is archived")
        return person, found

    async def type(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> list[Outcome]:
        """What the composer does with a line: a command when it begins with a slash, a message otherwise."""
        if text.startswith("/") and thread_ts is None:
            return await self.command(user, channel, text)
        self.say(user, channel, text, thread_ts)
        return [Outcome()]

    def say(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> Message:
        """Post as a person."""
        person, found = self._inside(user, channel)
        if not text.strip():
            raise CannotDo("an empty message cannot be sent")
        if thread_ts is not None and found.message(thread_ts) is None:
            raise CannotDo("there is no such message to reply to")
        message = Message(ts=self._team.next_ts(), user=person.id, text=self.escaped(text)[:TEXT], thread_ts=thread_ts)
        self._team.post(found, message)
        event = {"user": person.id, "text": message.text, "ts": message.ts, "channel": found.id, "team": self._team.id}
        if thread_ts:
            event["thread_ts"] = thread_ts
        if self._team.bot.id in found.members:
            kind = "im" if found.is_im else "group" if found.is_private else "channel"
            self.tell({"type": "message", "channel_type": kind, "event_ts": message.ts, **event})
            if f"<@{self._team.bot.id}>" in message.text:
                self.tell({"type": "app_mention", "event_ts": message.ts, **event})
        return message

    def join(self, user: str, channel: str) -> None:
        """Join a public channel."""
        person = self._team.person(user)
        found = self._team.channel_of(channel, user)
        if user not in found.members:
            self._team.join(found, person.id)

    def read(self, user: str, channel: str) -> None:
        """Mark all of a channel as read."""
        found = self._team.channel_of(channel, self._team.person(user).id)
        if found.messages and found.read.get(user) != found.messages[-1].ts:
            found.read[user] = found.messages[-1].ts
            self._team.changed()

    def tell(self, event: Json) -> None:
        """Send an event to the app, when it subscribed to this kind."""
        if event["type"] in self.events:
            stamped = {"event_ts": f"{time.time():.6f}", **event}
            self._delivery.send_event(event_parcel(payloads.event(self._team, stamped)))

    # -- commands

    async def command(self, user: str, channel: str, line: str, times: int = 1) -> list[Outcome]:
        """Run a slash command, such as "/signalbox list"."""
        person, found = self._inside(user, channel)
        name, _, text = line.strip().partition(" ")
        if name not in self._commands:
            seen = f"{name} is not a valid command. In Slack, what begins with / is a command."
            self._answers.whisper(found, person.id, seen)
            return [Outcome(seen=seen)]
        url = self._answers.url(person.id, found.id)
        trigger = self._api.once.trigger(person.id)
        payload = payloads.command(self._team, person, found, name, self.escaped(text.strip()), url, trigger)
        sent = await self._delivery.send_times(command_parcel(payload), times)
        first = sent[0]
        if first.problem:
            seen = FAILED.format(command=name, problem=first.problem)
            self._answers.whisper(found, person.id, seen)
            return [_outcome(answer, seen) for answer in sent]
        wrong = self._answers.of_command(found, person.id, first)
        if wrong:
            seen = FAILED.format(command=name, problem=wrong)
            self._answers.whisper(found, person.id, seen)
            return [_outcome(answer, seen) for answer in sent]
        return [_outcome(answer) for answer in sent]

    # -- messages

    async def click(
        self,
        user: str,
        channel: str,
        ts: str,
        action_id: str,
        *,
        block_id: str | None = None,
        value: Any = None,
        times: int = 1,
    ) -> list[Outcome]:
        """Press a button, or choose `value` in a menu, of a message that this person sees.

        Slack lets whoever can read a public channel press; who may is the app's business, so this does too.
        """
        person = self._team.person(user)
        found = self._team.channel_of(channel, user)
        message = found.message(ts)
        if message is None or message.visible_to not in (None, user):
            raise CannotDo(f"{person.name} sees no message {ts} there")
        block, element = choices.find(message.blocks, action_id, block_id)
        entry = choices.chosen(element, value)
        if entry:
            state = message.states.setdefault(person.id, {}).setdefault(block["block_id"], {})
            state[element["action_id"]] = {"type": element["type"], **entry}
        message.notices.pop(person.id, None)
        url = self._answers.url(person.id, found.id, message.ts)
        trigger = self._api.once.trigger(person.id)
        act = payloads.action(block, element, entry)
        payload = payloads.message_click(self._team, person, found, message, act, url, trigger)
        sent = await self._delivery.send_times(interaction_parcel(payload), times)
        if sent[0].problem:
            message.notices[person.id] = sent[0].problem
        self._team.changed()
        return [_outcome(answer) for answer in sent]

    # -- modals

    def _seen_view(self, user: str, view_id: str) -> tuple[Person, Json]:
        person = self._team.person(user)
        stack = self._api.modals.stack(user)
        if not stack or stack[-1]["id"] != view_id:
            raise CannotDo(f"{person.name} does not see the view {view_id}")
        return person, stack[-1]

    async def view_click(self, user: str, view_id: str, action_id: str, value: Any = None) -> list[Outcome]:
        """Press a button, or choose, in an open view."""
        person, view = self._seen_view(user, view_id)
        block, element = choices.find(view["blocks"], action_id)
        if block["type"] == "input" and not block.get("dispatch_action"):
            raise CannotDo("this field is reported with the submission only")
        act = payloads.action(block, element, choices.chosen(element, value))
        trigger = self._api.once.trigger(person.id, view_id)
        payload = payloads.view_click(self._team, person, view, act, trigger)
        answer = await self._delivery.send(interaction_parcel(payload))
        return [_outcome(answer, TROUBLE if answer.problem else "")]

    async def submit(self, user: str, view_id: str, values: Json, times: int = 1) -> list[Outcome]:
        """Submit an open view; `values`: block_id -> action_id -> value. Empty required fields never reach the app."""
        person, view = self._seen_view(user, view_id)
        if not view["submit"]:
            raise CannotDo("this view has nothing to submit")
        state, errors = choices.filled(view, values)
        if errors:
            return [Outcome(errors=errors)]
        trigger = self._api.once.trigger(person.id, view_id)
        payload = payloads.submission(self._team, person, view, state, trigger)
        sent = await self._delivery.send_times(interaction_parcel(payload), times)
        first = sent[0]
        if first.problem:
            return [_outcome(answer, TROUBLE) for answer in sent]
        seen, errors = self._answers.of_submission(user, view, first)
        return [replace(_outcome(answer), seen=seen, errors=errors) for answer in sent]

    async def close(self, user: str, view_id: str, *, everything: bool = False) -> list[Outcome]:
        """Close the visible view (Cancel), or all (the cross). The app hears of those with notify_on_close."""
        person, view = self._seen_view(user, view_id)
        everything = everything or view["clear_on_close"]
        gone = list(reversed(self._api.modals.stack(user))) if everything else [view]
        if everything:
            self._api.modals.clear(user)
        else:
            self._api.modals.close(user, view_id)
        told = [payloads.closed(self._team, person, v, cleared=everything) for v in gone if v["notify_on_close"]]
        return [_outcome(await self._delivery.send(interaction_parcel(payload))) for payload in told] or [Outcome()]

    # -- for tests

    async def replay(self, delivery: str, times: int, *, age_s: float, forged: bool) -> list[Outcome]:
        """Send again what was sent: the same bytes, freshly signed unless `age_s` or `forged` say otherwise."""
        parcel: Parcel = self._delivery.parcel(delivery)
        if not age_s and not forged:
            return [_outcome(answer) for answer in await self._delivery.send_times(parcel, times)]
        return [_outcome(await self._delivery.send(parcel, age_s=age_s, forged=forged)) for _ in range(times)]

    async def event(self, inner: Json, times: int) -> list[Outcome]:
        """Send any event; the same one `times` times."""
        parcel = event_parcel(payloads.event(self._team, inner))
        return [_outcome(answer) for answer in await self._delivery.send_times(parcel, times)]
