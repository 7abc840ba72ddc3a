"""POST /alerts/{source}: the codes that make every sender do the right thing."""

from __future__ import annotations

import asyncio
import io
import threading

import pytest

from bot.web import alerts
from engine.domain.errors import BadInput, Conflict, TooLarge, Unauthenticated, Unavailable
from tests.unit.bot.conftest import Bot

BODY = b'{"alerts": []}'


async def post(bot: Bot, body: bytes = BODY, **headers: str) -> tuple[int, str]:
    async with bot.client.post("/alerts/alertmanager", data=body, headers=headers) as answer:
        data = await answer.json()
        return answer.status, data["reason"]


async def test_a_new_delivery_is_202_and_a_known_one_200(bot: Bot) -> None:
    assert await post(bot) == (202, "accepted")
    assert await post(bot) == (200, "known already")


async def test_the_trigger_gets_raw_bytes_and_lower_case_headers(bot: Bot) -> None:
    await post(bot, b'{ "alerts" : [ ] }\n', Authorization="Bearer s3cret")
    [asked] = bot.service.asked("receive")

    assert asked["source"] == "alertmanager"
    assert asked["body"] == b'{ "alerts" : [ ] }\n'
    assert asked["headers"]["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthenticated("wrong token"), 401),
        (TooLarge("over 16 MiB"), 413),
        (BadInput("there is no source 'x'"), 404),
        (Unavailable("the database does not answer"), 503),
        (Conflict("somebody was faster"), 503),
        (ZeroDivisionError("a fault of ours"), 503),
    ],
)
async def test_each_error_has_the_code_that_senders_understand(bot: Bot, error: Exception, status: int) -> None:
    """Never 429, never 500: some senders drop the alert for those."""
    bot.service.fails["receive"] = error

    assert (await post(bot))[0] == status


async def test_a_refusal_does_not_say_what_we_know(bot: Bot) -> None:
    bot.service.fails["receive"] = Unauthenticated("expected token s3cret")

    assert await post(bot) == (401, "not authenticated")


async def test_a_body_over_the_cap_is_413_before_anybody_reads_it(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "MAX_BODY", 1000)
    async with bot.client.post("/alerts/alertmanager", data=b"x" * 1001) as answer:
        assert answer.status == 413
    assert not bot.service.asked("receive")


async def test_a_body_that_lies_about_its_length_is_cut_off_all_the_same(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunked: no length is announced."""
    monkeypatch.setattr(alerts, "MAX_BODY", 1000)
    async with bot.client.post("/alerts/alertmanager", data=io.BytesIO(b"x" * 5000), chunked=True) as answer:
        assert answer.status == 413
    assert not bot.service.asked("receive")


async def test_a_storm_of_five_thousand_alerts_fits(bot: Bot) -> None:
    """3.4 MB from one Alertmanager group (measured); aiohttp's own default would refuse it for ever."""
    async with bot.client.post("/alerts/alertmanager", data=io.BytesIO(b"x" * 3_400_000)) as answer:
        assert answer.status == 202


async def test_a_compressed_body_is_refused_unread(bot: Bot) -> None:
    assert (await post(bot, b"\x1f\x8b", **{"Content-Encoding": "gzip"}))[0] == 400
    assert not bot.service.asked("receive")


async def test_a_header_that_is_not_text_is_400(bot: Bot) -> None:
    assert (await post(bot, Authorization="Bearer pässwörd"))[0] == 400
    assert not bot.service.asked("receive")


async def test_two_tokens_are_no_token(bot: Bot) -> None:
    """Repeated headers are joined, so that no proxy and we disagree about which one counts."""
    async with bot.client.post(
        "/alerts/alertmanager", data=BODY, headers=[("Authorization", "Bearer a"), ("Authorization", "Bearer b")]
    ):
        pass

    assert bot.service.asked("receive")[0]["headers"]["authorization"] == "Bearer a, Bearer b"


async def test_an_engine_that_hangs_is_503_in_time(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def wait() -> None:
        go_on.wait(20)

    monkeypatch.setattr(alerts, "KEEP_S", 0.05)
    bot.service.before["receive"] = wait
    status, _ = await post(bot)
    go_on.set()

    assert status == 503


async def test_too_many_bodies_at_once_are_503_and_come_again(bot: Bot) -> None:
    go_on, inside = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        inside.release()
        go_on.wait(20)

    bot.service.before["receive"] = wait
    held = [asyncio.create_task(post(bot, b"%d" % n)) for n in range(alerts.AT_ONCE)]
    await asyncio.to_thread(inside.acquire, timeout=10)
    while (one_more := await post(bot))[0] != 503:
        pass
    go_on.set()
    statuses = [status for status, _ in await asyncio.gather(*held)]

    assert one_more[1].startswith("busy")
    assert set(statuses) <= {202, 503}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_is_an_alert(bot: Bot, method: str) -> None:
    async with bot.client.request(method, "/alerts/alertmanager") as answer:
        assert answer.status == 405
