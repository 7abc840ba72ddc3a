"""What is set aside for a request that never came to its end is spent, and nothing is counted after that."""

from __future__ import annotations

import pytest

from engine.agents.models import Price
from engine.agents.proxy.declined import Declined
from engine.agents.proxy.ledger import Ledger
from engine.agents.proxy.request import Request
from engine.domain.agent import Api, Budget, Usage

BUDGET = Budget(requests=9, tokens=10_000, calls=1, microdollars=100_000)


class Purse:
    """Adds up."""

    def __init__(self) -> None:
        self.used = Usage()

    def spend(self, usage: Usage) -> Usage:
        """The sum."""
        self.used += usage
        return self.used


def request(*, caches: bool = False) -> Request:
    return Request(api=Api.OPENAI, fields={}, output_field="max_tokens", asked=1000, weight=500, caches=caches)


def test_what_is_still_set_aside_when_the_door_closes_is_spent_once() -> None:
    purse = Purse()
    ledger = Ledger(BUDGET, Usage(), purse.spend, Price(input=3, output=15))
    lost, kept = ledger.hold(request()), ledger.hold(request())
    ledger.settle(kept, Usage(tokens=10))
    ledger.close()
    ledger.settle(lost, Usage(tokens=10))  # too late

    assert purse.used == Usage(requests=2, tokens=1510, microdollars=500 * 3 + 1000 * 15)
    with pytest.raises(Declined):
        ledger.hold(request())


def test_what_may_be_written_to_a_cache_is_set_aside_at_its_price() -> None:
    ledger = Ledger(BUDGET, Usage(), Purse().spend, Price(input=3, output=15))
    assert ledger.hold(request(caches=True)).whole.microdollars == 2 * 500 * 3 + 1000 * 15


def test_free_output_does_not_make_the_input_free() -> None:
    ledger = Ledger(BUDGET, Usage(microdollars=99_000), Purse().spend, Price(input=3, output=0))
    with pytest.raises(Declined, match="not enough"):
        ledger.hold(request())
