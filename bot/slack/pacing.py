"""Local pacing, below what Slack allows: a call that would be refused with 429 is not made yet.

Tiers per method, workspace and app: https://docs.slack.dev/apis/web-api/rate-limits/
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.domain.rate import Bucket, Rate, full

# of each: the sum stays under the tier in any sixty seconds
TIER_2 = Rate(5, 14)
TIER_3 = Rate(12, 36)
POSTS_TO_A_CHANNEL = Rate(4, 50)
POSTS = Rate(20, 200)
RATES = {
    "chat.update": TIER_3,
    "conversations.create": TIER_2,
    "conversations.setTopic": TIER_2,
    "conversations.list": TIER_2,
    "conversations.invite": TIER_3,
    "conversations.join": TIER_3,
    "conversations.history": TIER_3,
    "conversations.replies": TIER_3,
    "auth.test": TIER_3,
    "chat.getPermalink": TIER_3,
}
POST = "chat.postMessage"


class Paced(Exception):
    """Not yet: the next call of this kind is all right in `delay_s` seconds. Nothing was sent."""

    def __init__(self, method: str, delay_s: float) -> None:
        super().__init__(f"{method}: next in {delay_s:.1f} s")
        self.delay_s = delay_s


@dataclass(slots=True)
class Pace:
    """One per workspace. `clock` gives monotonic seconds."""

    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, Bucket] = field(default_factory=dict)
    _blocked: dict[str, float] = field(default_factory=dict)

    def _keys(self, method: str, channel: str) -> list[tuple[str, Rate]]:
        if method == POST:
            return [(f"{POST}:{channel}", POSTS_TO_A_CHANNEL), (POST, POSTS)]
        return [(method, RATES.get(method, TIER_2))]

    def take(self, method: str, channel: str = "") -> float:
        """Reserve one call: 0 when it may be made now, otherwise the seconds to wait (nothing is reserved then)."""
        now = self.clock()
        buckets = [self._buckets.setdefault(key, full(rate, now)) for key, rate in self._keys(method, channel)]
        blocked = [self._blocked.get(key, now) - now for key, _ in self._keys(method, channel)]
        wait = max([bucket.wait_s(now) for bucket in buckets] + blocked)
        if wait > 0:
            return wait
        for bucket in buckets:
            bucket.level -= 1
        return 0.0

    def block(self, method: str, channel: str, seconds: float) -> None:
        """Slack said 429 all the same: no such call for so long."""
        key = self._keys(method, channel)[0][0]
        self._blocked[key] = self.clock() + seconds
