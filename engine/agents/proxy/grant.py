"""What one door grants, and how it ends. Used by the handler of its connections."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator

from engine.agents.models import Model
from engine.agents.proxy.declined import Declined, plain
from engine.agents.proxy.ledger import Ledger
from engine.agents.proxy.upstream import Upstream

MOST_REFUSALS = 100
MORE = "more was refused than is told here"


class Grant:
    """One step's way to one model. Thread-safe."""

    def __init__(self, token: str, model: Model, key: str, ledger: Ledger, lives_s: float) -> None:
        self.model, self.key, self.ledger = model, key, ledger
        self.refusals: list[str] = []
        self._digest = _digest(token)
        self._ends = time.monotonic() + lives_s
        self._lock = threading.Lock()
        self._over = False
        self._under_way: set[Upstream] = set()

    @property
    def name(self) -> str:
        """For the audit: the begin of the token's digest."""
        return self._digest[:8]

    @property
    def left_s(self) -> float:
        """Seconds until it expires; 0 or less: it did, or it is over."""
        return -1.0 if self._over else self._ends - time.monotonic()

    def admit(self, tokens: tuple[str, ...]) -> None:
        """One of these must be the step's; raises Declined."""
        if not any(hmac.compare_digest(_digest(token), self._digest) for token in tokens):
            raise Declined(401, "this is not the step's token")
        self.must_live()

    def must_live(self) -> None:
        """Raises Declined when its time is over."""
        if self.left_s <= 0:
            raise Declined(403, "the step's time with its model is over")

    def refuse(self, why: str) -> None:
        """Note it for the transcript."""
        with self._lock:
            if len(self.refusals) < MOST_REFUSALS:
                self.refusals.append(plain(why))
            elif len(self.refusals) == MOST_REFUSALS:
                self.refusals.append(MORE)

    @contextlib.contextmanager
    def upstream(self) -> Iterator[Upstream]:
        """A connection that `end` cuts. Raises Declined once it ended, and when the server cannot be reached."""
        made = Upstream(self.model, self.key)
        with self._lock:
            if self._over:
                raise Declined(403, "the step's time with its model is over")
            self._under_way.add(made)
        try:
            made.connect()
            yield made
        finally:
            with self._lock:
                self._under_way.discard(made)
            made.close()

    def end(self) -> None:
        """Its token opens nothing from now on; what is under way is cut."""
        with self._lock:
            self._over = True
            under_way = tuple(self._under_way)
        for one in under_way:
            one.cut()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
