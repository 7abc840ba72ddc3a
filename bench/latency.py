"""How long people and alerts wait: from what comes in to the start of work, on an idle installation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa

from bench import installation
from engine.domain.incident import RunView
from engine.domain.states import RunState
from engine.store.session import open_engine

FLOOR = sa.Table(
    "bench_floor", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text)
)


@dataclass(slots=True)
class Waits:
    """Seconds, one for each alert: to the first step, from step to step, from a click to the resumed step."""

    first_s: list[float] = field(default_factory=list)
    steps_s: list[float] = field(default_factory=list)
    click_s: list[float] = field(default_factory=list)

    def add(self, other: Waits) -> None:
        """One round more."""
        self.first_s += other.first_s
        self.steps_s += other.steps_s
        self.click_s += other.click_s


def measure(url: str, numbers: Iterator[int], alerts: int) -> Waits:
    """One alert after the other, each followed to its end. The first is not counted."""
    waits = Waits()
    with installation.working(url, at_once=1) as box:
        for turn in range(alerts + 1):
            number = next(numbers)
            accepted = time.perf_counter()
            box.fire(number)
            box.wait(lambda number=number: _stands(box, number, RunState.AWAITING_APPROVAL) is not None)  # type: ignore[misc]
            run = _stands(box, number, RunState.AWAITING_APPROVAL)
            assert run is not None  # noqa: S101 - waited for
            clicked = time.perf_counter()
            box.service.approve(run.approvals[-1].token, installation.ANA, yes=True)
            box.wait_until_over((run.id,))
            begun = box.stopwatch.begun
            if turn:
                waits.first_s.append(begun[run.id, installation.FIRST] - accepted)
                waits.click_s.append(begun[run.id, "production"] - clicked)
                waits.steps_s += box.stopwatch.gaps
            box.stopwatch.gaps.clear()
    return waits


def _stands(box: installation.Installation, number: int, state: RunState) -> RunView | None:
    """The newest run, when it is the one of this number and stands so."""
    newest = box.service.incidents()[:1]
    for run in box.service.incident(newest[0].number).runs if newest else ():
        if run.runbook == installation.name(number, asks=True) and run.state is state:
            return run
    return None


def bare_commits(url: str, how_many: int) -> list[float]:
    """The floor: seconds that a transaction of one small row takes, on connections opened as ours are."""
    engine = open_engine(url)
    insert, taken = sa.insert(FLOOR), []
    try:
        FLOOR.create(engine, checkfirst=True)
        for _ in range(how_many):
            begun = time.perf_counter()
            with engine.begin() as connection:
                connection.execute(insert, {"text": "one small row"})
            taken.append(time.perf_counter() - begun)
    finally:
        engine.dispose()
    return taken
