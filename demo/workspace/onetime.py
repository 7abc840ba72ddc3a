"""Things that are good for a short time: trigger ids and response URLs.

https://docs.slack.dev/interactivity/handling-user-interaction/: a trigger_id lives 3 seconds and is exchanged once,
a response_url takes 5 messages within 30 minutes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from demo.workspace.errors import ApiError

TRIGGER_S = 3.0
RESPONSE_S = 30 * 60.0
RESPONSE_USES = 5


@dataclass(slots=True, kw_only=True)
class Trigger:
    """The right to open one view for a person. `view_id`: the modal that it came from, for views.push."""

    user: str
    view_id: str | None
    at: float
    used: bool = False


@dataclass(slots=True, kw_only=True)
class ResponseUrl:
    """Where the app may answer one interaction. `ts`: the message that was clicked, if it was one."""

    user: str
    channel: str
    ts: str | None
    at: float
    uses: int = 0


class OneTime:
    """Issues and redeems both kinds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._triggers: dict[str, Trigger] = {}
        self._urls: dict[str, ResponseUrl] = {}

    def trigger(self, user: str, view_id: str | None = None) -> str:
        """A fresh trigger_id."""
        key = f"{secrets.randbelow(10**10):010d}.{secrets.randbelow(10**12):012d}.{secrets.token_hex(16)}"
        self._triggers[key] = Trigger(user=user, view_id=view_id, at=self._clock())
        return key

    def exchange(self, key: str) -> Trigger:
        """Use up a trigger_id; raises ApiError with Slack's three reasons."""
        trigger = self._triggers.get(key)
        if trigger is None:
            raise ApiError("invalid_trigger_id")
        if trigger.used:
            raise ApiError("exchanged_trigger_id")
        if self._clock() - trigger.at > TRIGGER_S:
            raise ApiError("expired_trigger_id")
        trigger.used = True
        return trigger

    def response_key(self, user: str, channel: str, ts: str | None = None) -> str:
        """The unguessable last part of a fresh response_url."""
        key = secrets.token_urlsafe(24)
        self._urls[key] = ResponseUrl(user=user, channel=channel, ts=ts, at=self._clock())
        return key

    def respond(self, key: str) -> ResponseUrl:
        """Use a response_url once; raises ApiError("used_url" or "expired_url")."""
        url = self._urls.get(key)
        if url is None or self._clock() - url.at > RESPONSE_S:
            raise ApiError("expired_url")
        if url.uses >= RESPONSE_USES:
            raise ApiError("used_url")
        url.uses += 1
        return url
