"""Stages for acceptance tests: a folder of their own, gone afterwards; a failure tells what Signalbox last said."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from demo.stage import Stage
from demo.world.faults import Fault

TAIL = 4000
EVERY_S = 0.1


@contextmanager
def stage(
    fault: Fault = Fault.NONE,
    shelf: Path | None = None,
    after: Callable[[Stage], None] = lambda _stage: None,
    *,
    agents: bool = False,
) -> Iterator[Stage]:
    """A whole demo, in a folder of its own, for the time of the block.

    `shelf` is where its runbooks come from; `after` looks at what is left when everything was stopped; `agents`: they
    diagnose and write the fix.
    """
    begun = time.monotonic()
    progress: list[str] = []

    def say(text: str) -> None:
        progress.append(f"[{time.monotonic() - begun:5.0f} s] {text}")
        sys.stdout.write(f"{progress[-1]}\n")

    with tempfile.TemporaryDirectory(prefix="signalbox-", ignore_cleanup_errors=True) as folder:
        made = Stage(fault, say, folder=Path(folder), agents=agents)
        if shelf is not None:
            made.shelf = shelf
        try:
            with made.set_up():
                yield made
            after(made)
        except BaseException as error:  # whatever it was, pytest's own time-out included
            error.add_note("\n".join(["what happened:", *progress, *_tails(Path(folder))]))
            raise


def _tails(folder: Path) -> Iterator[str]:
    for name in ("signalbox.log", "workspace.log", "models.log"):
        path = folder / name
        yield f"the end of {name}:"
        yield path.read_text(errors="replace")[-TAIL:] if path.exists() else "it was not written"


def wait(holds: Callable[[], object], timeout_s: float, what: str) -> None:
    """Look ten times a second until it holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(EVERY_S)


def rows(stage: Stage, table: str) -> list[dict[str, Any]]:
    """The rows of a table of Signalbox's database, read past the program."""
    with closing(sqlite3.connect(f"file:{stage.home / 'signalbox.db'}?mode=ro", uri=True, timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]  # noqa: S608  # our own names
