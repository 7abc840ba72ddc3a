"""Anchors the heads of the chains of events outside the database, every so often and at the end.

In a thread of its own: a disk that does not answer must hold up nothing else.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import structlog

from engine.domain.errors import SignalboxError
from engine.domain.ports import Anchor, Clock
from engine.store import chain
from engine.store.session import Database

log = structlog.get_logger()

TRIED_AGAIN_S = 5.0


@dataclass(slots=True)
class Anchoring:
    """One thread. `every_s`: how often; sooner after a failure."""

    database: Database
    anchor: Anchor
    clock: Clock
    every_s: float
    unwell: dict[str, str] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; the first round is now."""
        self._thread = threading.Thread(target=self._for_ever, name="anchors", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """One last round, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _for_ever(self) -> None:
        while not self._stopping.is_set():
            self.round()
            self._stopping.wait(min(self.every_s, TRIED_AGAIN_S) if self.unwell else self.every_s)
        self.round()

    def round(self) -> None:
        """Anchor what changed; what went wrong is said by `unwell`."""
        try:
            with self.database.reading() as session:
                heads = chain.heads(session)
            wrong = "; ".join(self.anchor.keep(heads, self.clock.now()))
        except SignalboxError as error:
            wrong = f"{error}: {error.remedy}" if error.remedy else str(error)
        except Exception as error:  # the rim of a thread: it must live, whatever one round ran into
            log.exception("anchoring failed; trying again")
            wrong = f"a defect of ours: {type(error).__name__}"
        if wrong and self.unwell.get("evidence") != wrong:
            log.warning("evidence is not as it should be", why=wrong)
        self.unwell = {"evidence": wrong[:2000]} if wrong else {}
