"""Rate limits (https://docs.slack.dev/apis/web-api/rate-limits): tiers per minute, one post a second a channel."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable

WINDOW_S = 60.0
TIER = {1: 1, 2: 20, 3: 50, 4: 100}
""" Calls a minute. Slack says "20+": this workspace takes the lower end at its word. """
POSTS_A_SECOND = 1.0
POST_BURST = 5.0


class Limits:
    """Counts calls. `factor` makes time run faster (10: a minute lasts six seconds), for storm tests."""

    def __init__(self, factor: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.factor = factor
        self.on = True
        self._clock = clock
        self._calls: dict[str, deque[float]] = defaultdict(deque)
        self._buckets: dict[str, tuple[float, float]] = {}

    def retry_after(self, method: str, tier: int | None, channel: str) -> int | None:
        """Count this call; None when it may pass, else how many seconds to wait (as the header says it)."""
        if not self.on:
            return None
        now = self._clock() * self.factor
        wait = self._post(channel, now) if method == "chat.postMessage" else self._tier(method, tier, now)
        return None if wait is None else max(1, math.ceil(wait / self.factor))

    def _tier(self, method: str, tier: int | None, now: float) -> float | None:
        if tier is None:
            return None
        calls = self._calls[method]
        while calls and now - calls[0] >= WINDOW_S:
            calls.popleft()
        if len(calls) >= TIER[tier]:
            return WINDOW_S - (now - calls[0])
        calls.append(now)
        return None

    def _post(self, channel: str, now: float) -> float | None:
        tokens, at = self._buckets.get(channel, (POST_BURST, now))
        tokens = min(POST_BURST, tokens + (now - at) * POSTS_A_SECOND)
        if tokens < 1:
            self._buckets[channel] = (tokens, now)
            return (1 - tokens) / POSTS_A_SECOND
        self._buckets[channel] = (tokens - 1, now)
        return None
