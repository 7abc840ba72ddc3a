"""Doors to models. `ModelProxy.door` opens one for one agent step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.agents.models import Models
from engine.domain.agent import Api, Budget, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What a step is told. `socket`: a unix socket, alone in a folder that is ours; `port`: the same on 127.0.0.1.

    `token` goes into `x-api-key` or `Authorization: Bearer`. `model`: the name that a client asks for, its provider's.
    Paths begin with /v1. `refusals`: what was refused up to now, short texts for the transcript.
    """

    socket: Path
    port: int
    token: str
    api: Api
    model: str
    refusals: list[str]


class ModelProxy:
    """Opens doors. `models`: the file as it is now."""

    def __init__(self, models: Callable[[], Models]) -> None:
        self._models = models

    @contextlib.contextmanager
    def door(
        self, *, model: str, budget: Budget, used: Usage, spend: Callable[[Usage], Usage], lives_s: float
    ) -> Iterator[Door]:
        """A door to the model of this name. `used`: what earlier attempts used; `spend` adds to it and returns the
        sum, and is called by one thread at a time, until this block is left. Leaving it cuts what is under way.

        Raises BadInput: no such model, no key, a budget of money for a model without a price.
        """
        raise NotImplementedError((model, budget, used, spend, lives_s))
        yield  # type: ignore[unreachable]
