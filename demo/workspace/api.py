"""What every Web API method works with, and what a method is. The methods stand in `api_*.py`, one table each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demo.workspace.args import Args
from demo.workspace.errors import Json
from demo.workspace.modals import Modals
from demo.workspace.model import Team
from demo.workspace.onetime import OneTime


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The state behind the methods."""

    team: Team
    modals: Modals
    once: OneTime


@dataclass(frozen=True, slots=True)
class Method:
    """One method. `tier`: calls a minute by https://docs.slack.dev/apis/web-api/rate-limits; None: no limit kept."""

    tier: int | None
    run: Callable[[Api, Args], Json]
    required: tuple[str, ...] = ()
