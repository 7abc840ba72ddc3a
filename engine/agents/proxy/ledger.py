"""The budget of one door: what a request may cost is set aside before it starts, what it did cost is counted after."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from engine.agents.models import Price
from engine.agents.proxy.declined import Declined
from engine.agents.proxy.meter import Counted, cost
from engine.agents.proxy.request import BYTES_A_TOKEN, Request
from engine.domain.agent import Budget, Usage

FEWEST = 256
""" Output tokens: with fewer left no useful answer fits. """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hold:
    """What is set aside for one request. `most`: its output tokens."""

    most: int
    input: Counted
    whole: Usage


class Ledger:
    """Thread-safe. `spend` is called by one thread at a time. `microdollars` of the budget need a `price`."""

    def __init__(self, budget: Budget, used: Usage, spend: Callable[[Usage], Usage], price: Price | None) -> None:
        self._budget, self._used, self._spend, self._price = budget, used, spend, price
        self._lock = threading.Lock()
        self._holds: set[Hold] = set()
        self._closed = False

    def hold(self, request: Request) -> Hold:
        """Count the request, and set aside what it may cost; raises Declined when that is more than is left."""
        with self._lock:
            if self._closed:
                raise Declined(403, "this step is over")
            so_far = sum((hold.whole for hold in self._holds), self._used)
            if why := self._budget.spent(so_far):
                raise Declined(429, why)
            counted = _input(request)
            most = min(request.asked, self._room(so_far, cost(counted, self._price)))
            if most < min(request.asked, FEWEST):
                raise Declined(429, f"what is left of its budget is not enough for this request{self._left(so_far)}")
            whole = cost(Counted(tokens_in=counted.tokens_in, written=counted.written, tokens_out=most), self._price)
            self._count(Usage(requests=1))
            hold = Hold(most=most, input=counted, whole=whole)
            self._holds.add(hold)
            return hold

    def settle(self, hold: Hold, usage: Usage) -> None:
        """What it did cost. Once only: what comes after the door closed was counted whole."""
        with self._lock:
            if hold in self._holds:
                self._holds.remove(hold)
                if usage != Usage():
                    self._count(usage)

    def close(self) -> None:
        """Nothing more is counted. What is still set aside is counted as spent."""
        with self._lock:
            self._closed = True
            for hold in tuple(self._holds):
                self._holds.remove(hold)
                self._count(hold.whole)

    def _count(self, usage: Usage) -> None:
        """What cannot be counted cannot be gone on with: the journal's error goes up, and nothing more is passed on."""
        try:
            self._used = self._spend(usage)
        except BaseException:
            self._closed = True
            raise

    def _room(self, so_far: Usage, sent: Usage) -> int:
        """Output tokens that are left once the input is paid."""
        room = self._budget.tokens - so_far.tokens - sent.tokens
        if self._budget.microdollars is not None and self._price is not None:
            money = self._budget.microdollars - so_far.microdollars - sent.microdollars
            if self._price.output > 0:
                room = min(room, int(money / self._price.output))
            elif money < 0:
                room = -1
        return room

    def _left(self, so_far: Usage) -> str:
        text = f": {max(0, self._budget.tokens - so_far.tokens):,} tokens"
        if self._budget.microdollars is not None:
            text += f", ${max(0, self._budget.microdollars - so_far.microdollars) / 1e6:.4f}"
        return text


def _input(request: Request) -> Counted:
    """What its input costs at most."""
    if request.caches:
        return Counted(tokens_in=0, written=request.weight)
    return Counted(tokens_in=request.weight)


def estimated(hold: Hold, counted: Counted, size: int) -> Counted:
    """What was counted; where the provider said nothing, too much rather than nothing. `size`: bytes of the answer."""
    told = counted.tokens_in is not None and counted.tokens_in + counted.written > 0
    sent = counted if told else hold.input
    out = counted.tokens_out
    if not out:
        out = min(hold.most, size // BYTES_A_TOKEN + 1)
    return Counted(tokens_in=sent.tokens_in, written=sent.written, tokens_out=out)
