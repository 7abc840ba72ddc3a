"""A synchronous client of the workspace's driver: what `make demo AUTO=1` and the tests act with.

driver = Driver("http://127.0.0.1:8090")
message = driver.wait_for_message(r"inc-.*", lambda m: driver.buttons(m), timeout=60)
driver.click(message, "approval.approve", user="U0BEN00001")
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests

from demo.workspace.blockkit import elements_of
from demo.workspace.errors import Json

CALL_S = 40
STEP_S = 5.0

T = TypeVar("T")


class DriverError(Exception):
    """The workspace says that this cannot be done; `str()` says why."""


class Late(DriverError):
    """What was waited for did not come in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an act. `status` 0: the app did not answer. `seen`: what the person was told went wrong.
    `errors`: sentences of a refused modal by block_id. `copies`: the outcomes of further copies (`times`)."""

    delivery: str
    status: int
    ms: int
    body: str
    seen: str
    errors: dict[str, str]
    copies: tuple[Outcome, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Acknowledged, and nobody was told of a failure."""
        return not self.seen and not self.errors


class Driver:
    """Reads the workspace and acts as its people. Not for use by several threads at once."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    # -- reading

    def channels(self) -> list[Json]:
        """All channels; each with `id`, `name`, `members`, `pins`, `bookmarks`, `is_archived`, `topic`."""
        return self._get("channels")["channels"]  # type: ignore[no-any-return]  # JSON of our own server

    def channel(self, pattern: str) -> Json | None:
        """The newest channel whose whole name matches the pattern."""
        matching: list[Json] = [c for c in self.channels() if re.fullmatch(pattern, c["name"])]
        return matching[-1] if matching else None

    def messages(self, channel: str) -> list[Json]:
        """Messages of a channel (id or name), oldest first, `replies` inside, `visible_to` set on ephemeral ones."""
        return self._get("messages", channel=channel)["messages"]  # type: ignore[no-any-return]  # as above

    def views(self, user: str) -> list[Json]:
        """Open views of a person, the visible one last."""
        return self._get("views", user=user)["views"]  # type: ignore[no-any-return]  # as above

    def calls(self, method: str | None = None) -> list[Json]:
        """Web API calls (`at`, `method`, `args`, `status`, `answer`, `fault`), oldest first."""
        return [call for call in self._get("calls")["calls"] if method in (None, call["method"])]

    def deliveries(self) -> list[Json]:
        """What was sent to the app: `id`, `kind`, `body`, `status`, `answer`, `ms`, `problem`, `retry`."""
        return self._get("deliveries")["deliveries"]  # type: ignore[no-any-return]  # as above

    def received(self) -> str:
        """Everything that the workspace ever received, as text."""
        response = self._session.get(f"{self.url}/driver/received", timeout=CALL_S)
        response.raise_for_status()
        return response.text

    @staticmethod
    def buttons(message: Json) -> list[str]:
        """The action_ids that can be pressed or chosen in a message or view, in order."""
        return [element["action_id"] for _, element in elements_of(message.get("blocks", []))]

    @staticmethod
    def text(message: Json) -> str:
        """All text of a message, its blocks included, for searching."""
        return "\n".join([message.get("text", ""), *_texts(message.get("blocks", []))])

    # -- waiting

    def wait_for(self, look: Callable[[], T | None], timeout: float, what: str = "it") -> T:
        """Look again after each change until there is something; raises Late after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        version = -1
        while True:
            left = deadline - time.monotonic()
            try:
                version = self._get("changes", since=version, timeout=max(0.0, min(STEP_S, left)))["version"]
                found = look()
            except requests.ConnectionError:
                # the workspace is down for a while (a fault): it comes back on the same port
                found = None
                time.sleep(min(0.2, max(0.0, left)))
            if found:
                return found
            if left <= 0:
                raise Late(f"waited {timeout:g} s for {what}")

    def wait_for_message(
        self, channel_pattern: str, predicate: Callable[[Json], Any], timeout: float, *, replies: bool = True
    ) -> Json:
        """The newest message (or reply) for which `predicate` holds, in channels whose name matches; raises Late."""

        def look() -> Json | None:
            for channel in reversed(self.channels()):
                if not re.fullmatch(channel_pattern, channel["name"]):
                    continue
                top = self.messages(channel["id"])
                flat = [m for row in top for m in (row, *(row["replies"] if replies else ()))]
                newest_first: list[Json] = sorted(flat, key=lambda m: m["ts"], reverse=True)
                for message in newest_first:
                    if predicate(message):
                        return message
            return None

        return self.wait_for(look, timeout, f"a message in {channel_pattern}")

    def wait_for_view(self, user: str, predicate: Callable[[Json], Any], timeout: float) -> Json:
        """The view that this person sees, once `predicate` holds for it; raises Late."""

        def look() -> Json | None:
            stack = self.views(user)
            return stack[-1] if stack and predicate(stack[-1]) else None

        return self.wait_for(look, timeout, f"a view for {user}")

    # -- acting

    def click(
        self,
        message: Json,
        action_id: str,
        *,
        user: str,
        value: Any = None,
        block_id: str | None = None,
        times: int = 1,
    ) -> Outcome:
        """Press a button, or choose `value` in a menu; `times` copies of the same payload at once."""
        where = {"channel": message["channel"], "ts": message["ts"], "action_id": action_id}
        return self._act("click", **where, user=user, value=value, block_id=block_id, times=times)

    def view_click(self, view: Json, action_id: str, *, user: str, value: Any = None) -> Outcome:
        """Press a button, or choose, in an open view."""
        return self._act("view_click", view_id=view["id"], action_id=action_id, user=user, value=value)

    def submit(self, view: Json, values: dict[str, dict[str, Any]], *, user: str, times: int = 1) -> Outcome:
        """Submit a view; `values`: block_id -> action_id -> text, an option's value, or a list of such values."""
        return self._act("submit", view_id=view["id"], values=values, user=user, times=times)

    def close_view(self, view: Json, *, user: str, everything: bool = False) -> Outcome:
        """Cancel a view, or close all."""
        return self._act("close", view_id=view["id"], user=user, everything=everything)

    def command(self, channel: str, text: str, *, user: str, times: int = 1) -> Outcome:
        """Run a slash command, such as "/signalbox list", in a channel (id or name)."""
        return self._act("command", channel=channel, text=text, user=user, times=times)

    def say(self, channel: str, text: str, *, user: str, thread_ts: str | None = None) -> str:
        """Post as a person; returns the ts."""
        return str(self._post("say", channel=channel, text=text, user=user, thread_ts=thread_ts)["ts"])

    def join(self, channel: str, *, user: str) -> None:
        """Join a public channel."""
        self._post("join", channel=channel, user=user)

    def event(self, event: Json, *, times: int = 1) -> Outcome:
        """Send an event to the app."""
        return self._act("event", event=event, times=times)

    def replay(self, delivery: str, *, times: int = 1, age_s: float = 0, forged: bool = False) -> Outcome:
        """Send a delivery again: as it was, signed `age_s` seconds ago, or signed with another secret."""
        return self._act("replay", delivery=delivery, times=times, age_s=age_s, forged=forged)

    # -- making things go wrong

    def fault(self, kind: str, *, method: str = "*", times: int = 1, seconds: float = 1.0) -> None:
        """429, http_500, lost_reply, hang: the next `times` calls of `method`; down: the port closes for `seconds`."""
        self._post("fault", kind=kind, method=method, times=times, seconds=seconds)

    def no_faults(self) -> None:
        """Take back what has not gone wrong yet."""
        self._post("fault", clear=True)

    def configure(self, **settings: Any) -> None:
        """request_url, rate_limits (bool), events (names that the app subscribed to)."""
        self._post("configure", **settings)

    # -- the wire

    def _act(self, name: str, **body: Any) -> Outcome:
        first, *others = self._post(name, **body)["outcomes"]
        return Outcome(**first, copies=tuple(Outcome(**other) for other in others))

    def _get(self, name: str, **query: Any) -> Json:
        return self._checked(self._session.get(f"{self.url}/driver/{name}", params=query, timeout=CALL_S))

    def _post(self, name: str, **body: Any) -> Json:
        return self._checked(self._session.post(f"{self.url}/driver/{name}", json=body, timeout=CALL_S))

    @staticmethod
    def _checked(response: requests.Response) -> Json:
        if response.status_code in (403, 409):
            raise DriverError(response.json()["error"])
        response.raise_for_status()
        value: Json = response.json()
        return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        return own + [text for item in value.values() if isinstance(item, dict | list) for text in _texts(item)]
    return []
