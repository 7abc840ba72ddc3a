"""What a request costs, whole or streamed, in every wire format; and that no budget is overshot."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from engine.agents.models import Models
from engine.agents.proxy import ModelProxy
from engine.domain.agent import Api, Budget, Usage
from engine.domain.errors import BadInput, Unavailable
from tests.integration.agents.doors import BUDGET, Purse, asking, model, opened, post, proxy
from tests.integration.agents.provider import PATIENCE_S, Asked, Provider, Reply, events, streamed, whole

each_api = pytest.mark.parametrize("api", tuple(Api))


@each_api
def test_a_stream_passes_and_is_counted_by_the_providers_own_count(tmp_path: Path, api: Api) -> None:
    purse = Purse()
    with (
        Provider(lambda _: streamed(api)).running() as provider,
        opened(model(api, provider.url, tmp_path), purse) as door,
    ):
        answer = post(door, asking(api, stream=True))

    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.content == b"".join(events(api))
    assert purse.used == Usage(requests=1, tokens=120, microdollars=600)
    [asked] = provider.asked
    assert asked.body.get("stream_options") == ({"include_usage": True} if api is Api.OPENAI else None)


@each_api
def test_a_stream_passes_piece_by_piece(tmp_path: Path, api: Api) -> None:
    """The provider says its second event only after the client had the first."""
    came = threading.Event()
    first, *rest = events(api)

    def second() -> bytes:
        assert came.wait(PATIENCE_S)
        return b"".join(rest)

    def script(_: Asked) -> Reply:
        return Reply(pieces=(first, second), kind="text/event-stream")

    with (
        Provider(script).running() as provider,
        opened(model(api, provider.url, tmp_path)) as door,
        post(door, asking(api, stream=True), stream=True) as answer,
    ):
        pieces = answer.iter_content(None)
        assert next(pieces) == first
        came.set()
        assert b"".join(pieces) == b"".join(rest)


@each_api
@pytest.mark.parametrize("breaks", [False, True])
def test_a_stream_that_ends_without_usage_is_counted_by_its_bytes(tmp_path: Path, api: Api, *, breaks: bool) -> None:
    purse = Purse()
    with (
        Provider(lambda _: streamed(api, usage=False, breaks=breaks)).running() as provider,
        opened(model(api, provider.url, tmp_path), purse) as door,
    ):
        if breaks:
            with pytest.raises(requests.RequestException):
                post(door, asking(api, stream=True))
        else:
            post(door, asking(api, stream=True))

    size = len(b"".join(events(api, usage=False)))
    told = 100 if api is Api.ANTHROPIC else 300  # message_start tells the input; else it is estimated
    assert purse.used.tokens >= told + size // 3
    assert purse.used.microdollars >= 15 * (size // 3)


@each_api
def test_an_answer_without_usage_or_cut_short_is_counted_too(tmp_path: Path, api: Api) -> None:
    purse = Purse()
    replies = iter([Reply(pieces=(b'{"content": "x"}',)), Reply(pieces=(b'{"con',), length=500)])
    with (
        Provider(lambda _: next(replies)).running() as provider,
        opened(model(api, provider.url, tmp_path), purse) as door,
    ):
        assert post(door, asking(api)).status_code == 200
        first = purse.used
        assert post(door, asking(api)).status_code == 502

    assert first.tokens > 300
    assert purse.used.tokens > first.tokens + 300


def test_a_write_to_the_providers_cache_is_paid_for(tmp_path: Path) -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 40, "output_tokens": 1}
    purse = Purse()
    with (
        Provider(lambda _: Reply(pieces=(json.dumps({"type": "message", "usage": usage}).encode(),))).running() as it,
        opened(model(Api.ANTHROPIC, it.url, tmp_path), purse) as door,
    ):
        post(door, asking(Api.ANTHROPIC))

    assert purse.used == Usage(requests=1, tokens=71, microdollars=3 * (30 + 80) + 15)


@each_api
def test_parallel_requests_do_not_overshoot_the_budget_of_requests(
    provider: Provider, tmp_path: Path, api: Api
) -> None:
    purse = Purse(Usage(requests=2))
    budget = Budget(requests=5, tokens=10_000_000, calls=1)
    with opened(model(api, provider.url, tmp_path), purse, budget=budget) as door, ThreadPoolExecutor(12) as pool:
        codes = sorted(answer.status_code for answer in pool.map(lambda _: post(door, asking(api)), range(12)))

    assert codes == [200] * 3 + [429] * 9
    assert len(provider.asked) == 3
    assert purse.used.requests == 5
    assert any("5 requests" in refusal for refusal in door.refusals)


@pytest.mark.parametrize("dollars", [False, True])
def test_parallel_requests_do_not_overshoot_tokens_or_money(tmp_path: Path, *, dollars: bool) -> None:
    """Each costs what it was allowed to: whatever they ask for, together they stay within."""

    def script(asked: Asked) -> Reply:
        return whole("openai", tokens_in=200, tokens_out=asked.body["max_tokens"])

    budget = Budget(requests=100, tokens=10_000, calls=1)
    if dollars:
        budget = Budget(requests=100, tokens=10_000_000, calls=1, microdollars=100_000)
    purse = Purse()
    with (
        Provider(script).running() as provider,
        opened(model(Api.OPENAI, provider.url, tmp_path), purse, budget=budget) as door,
        ThreadPoolExecutor(12) as pool,
    ):
        codes = [a.status_code for a in pool.map(lambda _: post(door, asking(Api.OPENAI)), range(12))]

    assert set(codes) == {200, 429}
    assert purse.used.tokens <= budget.tokens
    assert purse.used.microdollars <= (budget.microdollars or 10**9)
    assert any("left" in refusal or "used up" in refusal for refusal in door.refusals)


def test_the_last_request_gets_no_more_output_than_is_left(provider: Provider, tmp_path: Path) -> None:
    budget = Budget(requests=9, tokens=2_000, calls=1)
    thinking = {"type": "enabled", "budget_tokens": 3000}
    with opened(model(Api.ANTHROPIC, provider.url, tmp_path), Purse(), budget=budget) as door:
        assert post(door, asking(Api.ANTHROPIC, thinking=thinking)).status_code == 200

    [asked] = provider.asked
    assert 1_500 < asked.body["max_tokens"] < 1_700
    assert asked.body["thinking"]["budget_tokens"] == asked.body["max_tokens"] - 1


def test_what_earlier_attempts_used_counts(provider: Provider, tmp_path: Path) -> None:
    purse = Purse(Usage(requests=1, tokens=BUDGET.tokens))
    with opened(model(Api.OPENAI, provider.url, tmp_path), purse) as door:
        assert post(door, asking(Api.OPENAI)).status_code == 429
    assert provider.asked == []


def test_a_request_that_cannot_be_counted_is_not_made(provider: Provider, tmp_path: Path) -> None:
    def spend(_: Usage) -> Usage:
        raise Unavailable("the database at db.internal did not answer")

    door = proxy(model(Api.OPENAI, provider.url, tmp_path)).door(
        model="careful", budget=BUDGET, used=Usage(), spend=spend, lives_s=60
    )
    with door as made:
        answer = post(made, asking(Api.OPENAI))
        assert post(made, asking(Api.OPENAI)).status_code == 403  # nothing more either

    assert answer.status_code == 503
    assert "db.internal" not in answer.text
    assert provider.asked == []


def test_a_budget_of_money_needs_a_price(provider: Provider, tmp_path: Path) -> None:
    entry = model(Api.OPENAI, provider.url, tmp_path, price=None)
    with (
        pytest.raises(BadInput, match="no price") as refused,
        opened(entry, budget=Budget(requests=1, tokens=1000, calls=1, microdollars=1000)),
    ):
        pass
    assert "price:" in refused.value.remedy
    with opened(entry):
        pass


def test_a_model_that_nobody_configured_has_no_door() -> None:
    nobody = ModelProxy(lambda: Models(Path("models.yaml"), {}))
    with (
        pytest.raises(BadInput, match="no model is named"),
        nobody.door(model="x", budget=BUDGET, used=Usage(), spend=lambda usage: usage, lives_s=1),
    ):
        pass
