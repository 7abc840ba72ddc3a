"""How often something may be done: a bucket that is full at first, and fills up again as time goes by."""

from __future__ import annotations

from dataclasses import dataclass

TINY = 1e-6
""" A rest of rounding is no reason to wait. """


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, then `per_minute`."""

    burst: int
    per_minute: float


@dataclass(slots=True)
class Bucket:
    """What of a rate is left. `at`: monotonic seconds of the last look."""

    rate: Rate
    level: float
    at: float

    def wait_s(self, now: float) -> float:
        """Fill up; how long until one more is all right (0: now)."""
        speed = self.rate.per_minute / 60
        self.level = min(float(self.rate.burst), self.level + (now - self.at) * speed)
        self.at = now
        return max(0.0, (1 - self.level) / speed) if self.level < 1 - TINY else 0.0

    def take(self, now: float) -> float:
        """Take one: 0 when it was there, otherwise the seconds until it is (nothing is taken then)."""
        wait = self.wait_s(now)
        if not wait:
            self.level -= 1
        return wait


def full(rate: Rate, now: float) -> Bucket:
    """A new one."""
    return Bucket(rate, rate.burst, now)
