"""The whole measurement: rounds in which everybody has a turn, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench import latency
from bench.contenders import Contender, Sample

RUNS = {1: 5, 16: 32, 64: 64}
""" Runs at once -> runs of a batch. """
COMMITS = 200


@dataclass(slots=True)
class Figures:
    """Everything that was measured on one database. `batches`: by contender and runs at once, a sample a round."""

    waits: latency.Waits = field(default_factory=latency.Waits)
    floor_s: list[float] = field(default_factory=list)
    batches: dict[tuple[str, int], list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def steps_a_second(self, name: str, at_once: int) -> float | None:
        """The median over the rounds; None where it was not measured."""
        samples = self.batches.get((name, at_once))
        return statistics.median(sample.steps_a_second for sample in samples) if samples else None


@dataclass(frozen=True, slots=True)
class Place:
    """A database and who is measured on it, each on one of its own; `url` is where waits and bare commits are."""

    name: str
    url: str
    contenders: tuple[Contender, ...]


def measure(
    places: tuple[Place, ...], rounds: int, alerts: int, say: Callable[[str], None], sizes: dict[int, int] | None = None
) -> dict[str, Figures]:
    """Everything, interleaved."""
    numbers = itertools.count()
    figures = {place.name: Figures() for place in places}
    for turn in range(1, rounds + 1):
        for place in places:
            say(f"round {turn} of {rounds}: waits on {place.name}")
            _waits(place, figures[place.name], numbers, alerts)
        for at_once, runs in (sizes or RUNS).items():
            for place in places:
                for contender in place.contenders:
                    if at_once <= contender.most:
                        sample = contender.carry(numbers, runs, at_once)
                        figures[place.name].batches[contender.name, at_once].append(sample)
                        speed = f"{sample.steps_a_second:.0f} steps/s"
                        say(f"  {at_once} at once on {place.name}, {contender.name}: {speed}")
    return figures


def _waits(place: Place, figures: Figures, numbers: Iterator[int], alerts: int) -> None:
    """The floor before and after, so that both have the same disk."""
    figures.floor_s += latency.bare_commits(place.url, COMMITS // 2)
    figures.waits.add(latency.measure(place.url, numbers, alerts))
    figures.floor_s += latency.bare_commits(place.url, COMMITS // 2)
