"""What the workspace holds: people, channels, messages. One `Team` is one workspace; every other room works on it.

Everything runs in one event loop and no method here awaits, so each change is atomic.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import string
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from demo.workspace.errors import ApiError, CannotDo, Json

ID_LETTERS = string.ascii_uppercase + string.digits


def new_id(prefix: str) -> str:
    """An id in Slack's form: a letter for the kind and ten letters or digits."""
    return prefix + "".join(secrets.choice(ID_LETTERS) for _ in range(10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody in the workspace. `id` as in Slack (`U...`), `name`: the handle, `title`: what the page says of them."""

    id: str
    name: str
    real_name: str
    title: str = ""
    is_bot: bool = False


@dataclass(slots=True, kw_only=True)
class Message:
    """One message. `visible_to` set: ephemeral, for this person only. `notices`: person -> what went wrong for them."""

    ts: str
    user: str
    text: str
    blocks: list[Json] = field(default_factory=list)
    from_app: bool = False
    thread_ts: str | None = None
    subtype: str | None = None
    metadata: Json | None = None
    edited: str | None = None
    mrkdwn: bool = True
    broadcast: bool = False
    visible_to: str | None = None
    reactions: dict[str, list[str]] = field(default_factory=dict)
    notices: dict[str, str] = field(default_factory=dict)
    states: dict[str, Json] = field(default_factory=dict)

    @property
    def is_reply(self) -> bool:
        """In a thread, and not its parent."""
        return self.thread_ts is not None and self.thread_ts != self.ts


@dataclass(slots=True, kw_only=True)
class Channel:
    """One conversation. `read`: person -> ts of the last message that they saw."""

    id: str
    name: str
    creator: str
    created: int
    is_private: bool = False
    is_im: bool = False
    is_archived: bool = False
    members: list[str] = field(default_factory=list)
    topic: Json = field(default_factory=lambda: {"value": "", "creator": "", "last_set": 0})
    purpose: Json = field(default_factory=lambda: {"value": "", "creator": "", "last_set": 0})
    previous_names: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)
    bookmarks: list[Json] = field(default_factory=list)
    read: dict[str, str] = field(default_factory=dict)

    def message(self, ts: str) -> Message | None:
        """The message of this timestamp, ephemeral ones too."""
        return next((m for m in reversed(self.messages) if m.ts == ts), None)

    def replies(self, ts: str) -> list[Message]:
        """The replies of a thread, oldest first."""
        return [m for m in self.messages if m.is_reply and m.thread_ts == ts]

    def visible_to(self, person: str) -> bool:
        """Whether this person can find the channel at all."""
        return person in self.members or not (self.is_private or self.is_im)


@dataclass(slots=True, kw_only=True)
class Team:
    """The whole workspace. `on_change` runs after every change (it saves); `tell` sends events to the app."""

    people: dict[str, Person]
    bot: Person
    usergroups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    id: str = "T0SIGNALBX"
    domain: str = "signalbox-demo"
    name: str = "Signalbox demo"
    app_id: str = "A0SIGNALBX"
    bot_id: str = "B0SIGNALBX"
    url: str = ""
    channels: dict[str, Channel] = field(default_factory=dict)
    version: int = 0
    on_change: Callable[[], None] = lambda: None
    tell: Callable[[Json], None] = lambda _event: None
    _last_us: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    # -- time and change

    def next_ts(self) -> str:
        """A fresh timestamp in Slack's form, larger than every one before it."""
        self._last_us = max(int(time.time() * 1_000_000), self._last_us + 1)
        return f"{self._last_us // 1_000_000}.{self._last_us % 1_000_000:06d}"

    def no_ts_before(self, ts: str) -> None:
        """After a restart: timestamps go on after this one, even when the clock went back."""
        self._last_us = max(self._last_us, int(ts.replace(".", "")))

    def changed(self) -> None:
        """Something that people see is different now: wake whoever waits, save."""
        self.version += 1
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()
        self.on_change()

    async def wait_for_change(self, since: int, timeout_s: float) -> int:
        """Return the version as soon as it is not `since`, at the latest after `timeout_s` seconds."""
        if self.version == since:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        return self.version

    # -- looking up, for the app (raises ApiError) and for people (raises CannotDo)

    def everybody(self) -> list[Person]:
        """People first, the app's bot user last."""
        return [*self.people.values(), self.bot]

    def person(self, user: str) -> Person:
        """Who acts on the page; raises CannotDo."""
        try:
            return self.people[user]
        except KeyError:
            raise CannotDo(f"there is nobody with the id {user!r} here") from None

    def find_user(self, user: str) -> Person:
        """A user by id, the bot included; raises ApiError."""
        if user == self.bot.id:
            return self.bot
        try:
            return self.people[user]
        except KeyError:
            raise ApiError("user_not_found") from None

    def by_name(self, name: str) -> Channel | None:
        """The channel of this name, archived ones too: their names stay taken."""
        return next((c for c in self.channels.values() if c.name == name and not c.is_im), None)

    def find_channel(self, channel: str) -> Channel:
        """A channel that the app can see, by id; raises ApiError."""
        found = self.channels.get(channel)
        if found is None or not found.visible_to(self.bot.id):
            raise ApiError("channel_not_found")
        return found

    def channel_of(self, channel: str, person: str) -> Channel:
        """A channel that a person can see, by id or name; raises CannotDo."""
        found = self.channels.get(channel) or self.by_name(channel.removeprefix("#"))
        if found is None or not found.visible_to(person):
            raise CannotDo(f"{person} sees no channel {channel!r}")
        return found

    def direct(self, person: str) -> Channel:
        """The direct conversation of the bot with a person; made when it is not there yet."""
        self.find_user(person)
        for channel in self.channels.values():
            if channel.is_im and person in channel.members:
                return channel
        channel = Channel(
            id=new_id("D"),
            name=self.bot.name,
            creator=self.bot.id,
            created=int(time.time()),
            is_private=True,
            is_im=True,
            members=[person, self.bot.id],
        )
        self.channels[channel.id] = channel
        return channel

    # -- changing

    def post(self, channel: Channel, message: Message) -> Message:
        """Add a message; who writes has read."""
        channel.messages.append(message)
        if message.thread_ts and not message.visible_to:
            parent = channel.message(message.thread_ts)
            if parent is not None:
                parent.thread_ts = parent.ts
        if message.user in self.people:
            channel.read[message.user] = message.ts
        self.changed()
        return message

    def post_system(self, channel: Channel, user: str, subtype: str, text: str) -> None:
        """A line that Slack itself writes into the history, such as `channel_join`."""
        self.post(channel, Message(ts=self.next_ts(), user=user, text=text, subtype=subtype))

    def join(self, channel: Channel, user: str, inviter: str | None = None) -> None:
        """Add a member, write the line, tell the app."""
        channel.members.append(user)
        self.post_system(channel, user, "channel_join", f"<@{user}> has joined the channel")
        event = {"type": "member_joined_channel", "user": user, "channel": channel.id, "channel_type": "C"}
        self.tell({**event, "team": self.id, **({"inviter": inviter} if inviter else {})})
