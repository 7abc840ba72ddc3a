"""Brings commands, clicks, submissions and events to the app's request URL, signed, with Slack's deadline.

Signature: https://docs.slack.dev/authentication/verifying-requests-from-slack (v0, HMAC-SHA256 over time and body).
Deadline and retries of events: https://docs.slack.dev/apis/events-api/#retries. Only events are sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientError, ClientSession, ClientTimeout

from demo.workspace.errors import CannotDo, Json
from demo.workspace.journal import Journal
from demo.workspace.model import new_id

DEADLINE_S = 3.0
EVENT_RETRIES_S = (0.0, 60.0, 300.0)
ANSWER_BYTES = 1_000_000
FORM = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"


def signature(secret: str, timestamp: int, body: str) -> str:
    """The value of X-Slack-Signature."""
    return "v0=" + hmac.new(secret.encode(), f"v0:{timestamp}:{body}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What is sent; the same parcel may be sent again, to see what the app does with it."""

    kind: str
    content_type: str
    body: str


def command_parcel(payload: Json) -> Parcel:
    """A slash command: plain form fields."""
    return Parcel(kind="command", content_type=FORM, body=urlencode(payload))


def interaction_parcel(payload: Json) -> Parcel:
    """A click or a submission: one form field `payload` with JSON in it."""
    return Parcel(kind=payload["type"], content_type=FORM, body=urlencode({"payload": json.dumps(payload)}))


def event_parcel(payload: Json) -> Parcel:
    """An event: JSON."""
    return Parcel(kind="event", content_type=JSON_TYPE, body=json.dumps(payload))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. `problem` is "" when it was acknowledged in time, else the word that Slack shows for it."""

    delivery: str
    status: int
    body: str
    ms: int
    problem: str

    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Delivery:
    """Sends parcels. `factor` makes the waits between retries of events shorter."""

    def __init__(self, secret: str, request_url: str, journal: Journal, factor: float = 1.0) -> None:
        self.request_url = request_url
        self._secret = secret
        self._journal = journal
        self._factor = factor
        self._session: ClientSession | None = None
        self._parcels: dict[str, Parcel] = {}
        self._retrying: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the client."""
        self._session = ClientSession(timeout=ClientTimeout(total=DEADLINE_S), trust_env=False)

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._retrying:
            task.cancel()
        await asyncio.gather(*self._retrying, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def send(
        self, parcel: Parcel, *, retry: int = 0, reason: str = "", age_s: float = 0, forged: bool = False
    ) -> Answer:
        """Send once. `age_s`: signed that long ago; `forged`: signed with another secret."""
        delivery = new_id("D")
        self._parcels[delivery] = parcel
        started = time.monotonic()
        status, body, problem = await self._post(parcel, self._headers(parcel, retry, reason, age_s, forged))
        ms = round((time.monotonic() - started) * 1000)
        answer = Answer(delivery=delivery, status=status, body=body, ms=ms, problem=problem)
        row = {"id": delivery, "at": time.time(), "kind": parcel.kind, "body": parcel.body, "retry": retry}
        self._journal.deliveries.append({**row, "status": status, "answer": body, "ms": ms, "problem": problem})
        return answer

    async def send_times(self, parcel: Parcel, times: int) -> list[Answer]:
        """Send the same parcel `times` times at once, as a network that duplicates would."""
        if not 1 <= times <= 50:
            raise CannotDo("times is a number from 1 to 50")
        return list(await asyncio.gather(*(self.send(parcel) for _ in range(times))))

    def parcel(self, delivery: str) -> Parcel:
        """What was sent in this delivery; raises CannotDo."""
        try:
            return self._parcels[delivery]
        except KeyError:
            raise CannotDo(f"there was no delivery {delivery!r}") from None

    def send_event(self, parcel: Parcel) -> None:
        """Send an event in the background, and again when it is not taken."""
        task = asyncio.get_running_loop().create_task(self.event_until_taken(parcel))
        self._retrying.add(task)
        task.add_done_callback(self._retrying.discard)

    async def event_until_taken(self, parcel: Parcel) -> None:
        """At once, then three more times: immediately, after one minute, after five."""
        answer = await self.send(parcel)
        for number, wait in enumerate(EVENT_RETRIES_S, start=1):
            if not answer.problem:
                return
            await asyncio.sleep(wait / self._factor)
            reason = "http_timeout" if answer.problem == "operation_timeout" else "http_error"
            answer = await self.send(parcel, retry=number, reason=reason)

    def _headers(self, parcel: Parcel, retry: int, reason: str, age_s: float, forged: bool) -> dict[str, str]:
        timestamp = int(time.time() - age_s)
        secret = self._secret + "x" if forged else self._secret
        headers = {
            "Content-Type": parcel.content_type,
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
            "X-Slack-Request-Timestamp": str(timestamp),
            "X-Slack-Signature": signature(secret, timestamp, parcel.body),
        }
        if retry:
            headers |= {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": reason}
        return headers

    async def _post(self, parcel: Parcel, headers: dict[str, str]) -> tuple[int, str, str]:
        if self._session is None or not self.request_url:
            return 0, "", "dispatch_failed"
        try:
            async with self._session.post(
                self.request_url, data=parcel.body.encode(), headers=headers, allow_redirects=False
            ) as response:
                raw = await response.content.read(ANSWER_BYTES)
                self._journal.receive(f"ANSWER {response.status} to {parcel.kind}", response.headers, raw)
                problem = "" if 200 <= response.status < 300 else "dispatch_failed"
                return response.status, raw.decode(errors="replace"), problem
        except TimeoutError:
            return 0, "", "operation_timeout"
        except ClientError:
            return 0, "", "dispatch_failed"
