"""What an agent's work needs of the model proxy. Implemented by `engine.agents.proxy`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from engine.agents.proxy import Threshold
from engine.domain.agent import Api, Budget, Usage


class Door(Protocol):
    """What of an open door the loop needs; `refusals`: what the proxy refused, in words."""

    @property
    def socket(self) -> Path: ...
    @property
    def token(self) -> str: ...
    @property
    def api(self) -> Api: ...
    @property
    def model(self) -> str: ...
    @property
    def refusals(self) -> Sequence[str]: ...


class Doors(Protocol):
    """The model proxy: opens a door to one model for one step, with a budget that it holds by itself."""

    def threshold(self) -> AbstractContextManager[Threshold]: ...

    def door(
        self,
        *,
        model: str,
        budget: Budget,
        used: Usage,
        spend: Callable[[Usage], Usage],
        lives_s: float,
        at: Threshold | None = None,
    ) -> AbstractContextManager[Door]: ...
