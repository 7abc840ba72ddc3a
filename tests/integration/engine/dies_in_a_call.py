"""A process of Signalbox that is killed in the middle of an agent's call: `python -m ... URL FILE`. What was run in the
agent's VM until then stands in the file."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from engine.store.session import Database
from tests.doubles.played_agents import FakeAgents, with_agent
from tests.integration.engine.an_agent import AFTER, LOOK, STATUS
from tests.integration.migrations.left_behind import new_box


def main(url: str, told: Path) -> None:
    """Never returns."""
    box = new_box(Database(url), starts=10)
    box.shelf.runbook = with_agent()

    def when(what: str) -> None:
        if what == "made status":
            told.write_text("\n".join(" ".join(argv) for argv in box.hypervisor.guest.heard))
            os.kill(os.getpid(), signal.SIGKILL)

    box.adapters = replace(box.adapters, agents=FakeAgents(calls=(LOOK, STATUS, AFTER), when=when))
    box.start()
    box.fire()
    box.go()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
