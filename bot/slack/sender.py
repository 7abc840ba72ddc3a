"""Drains the outbox into Slack for as long as the process lives. `bot.app` runs it beside the web server.

Only this loop retries. What is sent is decided in `delivery`; here is decided what becomes of a row afterwards:
sent, later (counted or not, ambiguous or not), or dead.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import structlog

from bot.crossing import ask
from bot.slack.delivery import Delivery, Refs, Undeliverable
from bot.slack.pacing import Paced
from bot.slack.troubles import CALL_ERRORS, Kind, Trouble, read
from engine.domain.errors import BadInput, SignalboxError, Unavailable
from engine.domain.incident import OutboxItem
from engine.service import Service

log = structlog.get_logger(__name__)

AT_ONCE = 8
SENDING_S = 45.0
""" A row is ours for a minute only: another bot may take it up then. """
IDLE_S = 0.4
MAX_TRIES = 100
LONGEST_DELAY_S = 60.0
AUTH_DELAY_S = 30.0
DRAIN_S = 5.0


def backoff(tries: int) -> float:
    """Seconds before the next try: doubling from half a second, at most a minute, with a spread."""
    return float(min(LONGEST_DELAY_S, 0.5 * 2 ** min(tries, 10)) * random.uniform(0.7, 1.3))  # noqa: S311  no secret


class Sender:
    """One per process. `unwell` and `counts` are for /healthz and /metrics."""

    def __init__(self, service: Service, delivery: Delivery) -> None:
        self._service = service
        self._delivery = delivery
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble = "not started yet"
        self._outage = 0
        self._pause_until = 0.0
        self.counts: Counter[str] = Counter()

    def unwell(self) -> Mapping[str, str]:
        """What is wrong with Slack now; empty when nothing is."""
        return {"slack": self._trouble} if self._trouble else {}

    async def run(self) -> None:
        """Send until cancelled; then give what is on its way a moment to arrive."""
        try:
            await self._insist(lambda: ask(self._service.outbox_recover))
            self._trouble = ""
            while True:
                await self._round()
        finally:
            await self._drain()

    async def _round(self) -> None:
        free = AT_ONCE - len(self._tasks)
        pause = self._pause_until - asyncio.get_running_loop().time()
        items = await self._due(free) if free and pause <= 0 else ()
        for item in items:
            task = asyncio.create_task(self.send(item))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if items:
            return
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(IDLE_S)

    async def _due(self, limit: int) -> tuple[OutboxItem, ...]:
        try:
            return await ask(self._service.outbox_due, limit)
        except SignalboxError as error:
            log.warning("outbox_unreadable", problem=str(error))
        except Exception:  # the rim: whatever the database throws, the loop must outlive it
            log.exception("outbox_unreadable")
        return ()

    async def send(self, item: OutboxItem) -> None:
        """Carry out one row and report what came of it."""
        report = await self._attempt(item)
        await self._insist(report)

    async def _attempt(self, item: OutboxItem) -> Callable[[], Awaitable[None]]:
        """Try once; returns the report that is owed to the outbox."""
        try:
            async with asyncio.timeout(SENDING_S):
                refs = await self._delivery.carry_out(item)
        except Paced as early:
            return self._later(item, str(early), early.delay_s, ambiguous=item.ambiguous, counted=False)
        except (Undeliverable, BadInput) as error:
            return self._dead(item, str(error))
        except SignalboxError as error:
            self._trouble, self._outage = str(error), self._outage + 1
            counted = not isinstance(error, Unavailable)
            return self._later(item, str(error), backoff(self._outage), ambiguous=item.ambiguous, counted=counted)
        except CALL_ERRORS as error:
            return self._after(item, read(error))
        except Exception as error:  # the rim: a fault of ours must cost one row's tries, not the sender
            log.exception("row_failed", topic=item.topic, key=item.key)
            return self._later(item, f"fault: {type(error).__name__}", backoff(item.attempts), ambiguous=True)
        return self._sent(item, refs)

    def _after(self, item: OutboxItem, trouble: Trouble) -> Callable[[], Awaitable[None]]:
        """What a failed Slack call means for the row."""
        ambiguous = item.ambiguous or trouble.ambiguous
        if trouble.kind is Kind.LIMITED:
            self.counts["limited"] += 1
            return self._later(item, trouble.code, trouble.retry_after_s, ambiguous=ambiguous, counted=False)
        if trouble.kind is Kind.AUTH:
            self._trouble = f"Slack refuses our token ({trouble.code}): check SIGNALBOX_SLACK_BOT_TOKEN and its scopes"
            self._pause_until = asyncio.get_running_loop().time() + AUTH_DELAY_S
            return self._later(item, trouble.code, AUTH_DELAY_S, ambiguous=ambiguous, counted=False)
        if trouble.kind is Kind.UNREACHABLE:
            self._outage += 1
            self._trouble = f"Slack does not answer ({trouble.code})"
            return self._later(item, trouble.code, backoff(self._outage), ambiguous=ambiguous, counted=False)
        if trouble.kind is Kind.TRANSIENT:
            return self._later(item, trouble.code, backoff(item.attempts), ambiguous=ambiguous)
        return self._dead(item, trouble.code)

    def _sent(self, item: OutboxItem, refs: Refs) -> Callable[[], Awaitable[None]]:
        self._trouble, self._outage = "", 0
        self.counts["sent"] += 1
        return lambda: ask(self._service.outbox_sent, item, refs)

    def _later(
        self, item: OutboxItem, reason: str, delay_s: float, *, ambiguous: bool, counted: bool = True
    ) -> Callable[[], Awaitable[None]]:
        if counted and item.attempts + 1 >= MAX_TRIES:
            return self._dead(item, f"gave up after {MAX_TRIES} tries: {reason}")
        self.counts["later"] += 1
        return lambda: ask(
            self._service.outbox_later, item, reason[:300], delay_s, ambiguous=ambiguous, counted=counted
        )

    def _dead(self, item: OutboxItem, reason: str) -> Callable[[], Awaitable[None]]:
        self.counts["dead"] += 1
        log.error("outbox_row_dead", topic=item.topic, key=item.key, reason=reason)
        return lambda: ask(self._service.outbox_dead, item, reason[:300])

    async def _insist(self, report: Callable[[], Awaitable[None]]) -> None:
        """Report until the database takes it: a row that was sent must not be sent again."""
        tries = 0
        while True:
            try:
                await report()
            except SignalboxError as error:
                log.warning("outbox_report_refused", problem=str(error))
            except Exception:  # the rim, as above
                log.exception("outbox_report_failed")
            else:
                return
            tries += 1
            await asyncio.sleep(min(5.0, backoff(tries)))

    async def _drain(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()  # its row is ours until reported: the next start looks before it sends
            await asyncio.gather(*late, return_exceptions=True)
