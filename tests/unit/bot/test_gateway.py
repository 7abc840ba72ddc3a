"""GET /v1/runs/{id}: answers who has the token, not too often, with where the run stands and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from bot.web.gateway import RATE
from engine.domain.errors import BadInput
from tests.unit.bot.conftest import API_TOKEN, Bot


async def get(bot: Bot, run: str = "run-1", token: str = API_TOKEN) -> tuple[int, dict[str, Any]]:
    async with bot.client.get(f"/v1/runs/{run}", headers={"Authorization": f"Bearer {token}"}) as answer:
        return answer.status, await answer.json()


async def test_it_tells_where_the_run_stands(bot: Bot) -> None:
    status, told = await get(bot)

    assert status == 200
    assert (told["run"], told["step"], told["waits_for_a_person"]) == ("run-1", "diagnose", False)
    assert {"id", "kind", "place", "finished", "may_proceed"} == set(told["steps"][0])


@pytest.mark.parametrize("token", ["", "wrong", API_TOKEN + "x"])
async def test_without_the_token_nobody_is_told_anything(bot: Bot, token: str) -> None:
    assert (await get(bot, token=token))[0] == 401
    assert not bot.service.asked("standing")


async def test_without_a_token_configured_it_is_closed(closed_bot: Bot) -> None:
    assert (await get(closed_bot, token=""))[0] == 404


async def test_asked_in_a_loop_it_stops_answering(bot: Bot) -> None:
    statuses = [(await get(bot))[0] for _ in range(RATE.burst + 3)]

    assert statuses[: RATE.burst] == [200] * RATE.burst
    assert statuses[-1] == 429


async def test_what_it_cannot_tell_it_says(bot: Bot) -> None:
    bot.service.fails["standing"] = BadInput("there is no run x")
    assert (await get(bot))[0] == 404
    bot.service.fails["standing"] = ZeroDivisionError("a fault of ours")
    assert (await get(bot))[0] == 503


async def test_an_odd_id_is_not_looked_for(bot: Bot) -> None:
    assert (await get(bot, run="a%20b"))[0] == 404
    assert not bot.service.asked("standing")
