"""A door of the model proxy, opened for a test, and a client of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from engine.agents.models import Model, Models, Price
from engine.agents.proxy import Door, ModelProxy
from engine.domain.agent import Api, Budget, Usage
from tests.integration.agents.provider import KEY

MODEL = "big-model-1"
PATHS = {Api.ANTHROPIC: "/v1/messages", Api.OPENAI: "/v1/chat/completions", Api.OPENAI_RESPONSES: "/v1/responses"}
PRICE = Price(input=3.0, output=15.0)
BUDGET = Budget(requests=50, tokens=200_000, calls=10)


@dataclass
class Purse:
    """A journal's part of spending: the sum, and each sum that was added."""

    used: Usage = field(default_factory=Usage)
    added: list[Usage] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spend(self, usage: Usage) -> Usage:
        """Add, and return the sum."""
        with self.lock:
            self.added.append(usage)
            self.used += usage
            return self.used


def model(api: Api, url: str, folder: Path, **changes: Any) -> Model:
    """One model whose server is at `url`, its key in a file of `folder`."""
    key = folder / "key"
    key.write_text(f"{KEY}\n")
    values = {"name": "careful", "api": api, "model": MODEL, "url": f"{url}/v1", "max_output_tokens": 4096}
    return Model(**{**values, "key_file": key, "price": PRICE, **changes})


def proxy(entry: Model) -> ModelProxy:
    """A proxy that knows this model only."""
    return ModelProxy(lambda: Models(Path("models.yaml"), {entry.name: entry}))


@contextlib.contextmanager
def opened(
    entry: Model, purse: Purse | None = None, *, budget: Budget = BUDGET, lives_s: float = 60.0
) -> Iterator[Door]:
    """A door to it."""
    purse = purse or Purse()
    door = proxy(entry).door(model=entry.name, budget=budget, used=purse.used, spend=purse.spend, lives_s=lives_s)
    with door as made:
        yield made


def asking(api: Api, **more: Any) -> dict[str, Any]:
    """A small request."""
    if api is Api.OPENAI_RESPONSES:
        return {"model": MODEL, "input": "how full is the disk?", **more}
    return {"model": MODEL, "messages": [{"role": "user", "content": "how full is the disk?"}], **more}


def post(door: Door, body: Any, *, path: str = "", token: str | None = None, **more: Any) -> requests.Response:
    """Send it by the loopback port. `token`: the door's unless given."""
    headers = {"Authorization": f"Bearer {door.token if token is None else token}"}
    url = f"http://127.0.0.1:{door.port}{path or PATHS[door.api]}"
    with requests.Session() as session:
        session.trust_env = False
        sent = {"json": body} if isinstance(body, dict) else {"data": body}
        return session.post(url, headers=headers, timeout=20, **sent, **more)
