"""A workspace with a real bolt application, once in the test's own loop and once in a thread with a driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from demo.workspace import Workspace
from demo.workspace.background import running
from demo.workspace.driver import Driver
from tests.integration.workspace.app import Bot, workspace_with_bot


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a synchronous test needs."""

    workspace: Workspace
    bot: Bot
    driver: Driver


@pytest_asyncio.fixture
async def team() -> AsyncIterator[tuple[Workspace, Bot]]:
    """A workspace and its bot, in the loop of the test."""
    async with workspace_with_bot() as both:
        yield both


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A workspace and its bot in a thread, and a driver."""
    with running(workspace_with_bot()) as (workspace, bot):
        driver = Driver(workspace.url)
        try:
            yield Stage(workspace, bot, driver)
        finally:
            driver.close()
