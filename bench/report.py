"""docs/benchmarks.md, written from figures."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.contenders import Sample
from bench.counting import PLAIN, Transaction
from bench.measuring import RUNS, Figures

OURS, PERSTEP, DBOS = "Signalbox", "Procrastinate, a job a step", "DBOS, a step a step"
MOST_STATEMENTS, MOST_COMMITS = 7, 1.5
OVER_DBOS, OVER_PERSTEP, OVER_FLOOR = 3.0, 1.5, 3.0
COMPARED_AT = 16

HOW_TO_READ = """
**What is real:** the machine (every move, check, event, hash, outbox row and claim), the service, the watch, the worker
with its threads, SQLite with WAL and `synchronous=FULL`, and a Postgres of its own with `fsync` and
`synchronous_commit` on. On SQLite the carrier is threads of the process, on Postgres jobs of Procrastinate.

**What is faked** (the fakes of `tests/doubles`): VMs, runners, gate checks, secrets, the trigger's format; the shelf of
runbooks and the directory of sites are in memory. Steps end at once, so what is left is coordination. In earnest a step
takes seconds to minutes; a VM alone takes longer to start than all of this together.

A run has nine steps: receive, diagnose, gate, fix, staging, gate, production, gate, close. No step has secrets or
egress, nothing is rehearsed; a person is asked only where *click* is measured. Receiving and closing take no work, so
a run has eight boundaries. Everything runs in one process. All who are compared take turns within each round; speeds
are medians of the rounds.

**Statements** are counted as the client sends them (an executemany is one; its rows are counted apart), without BEGIN
and COMMIT. **On the server** is what Postgres itself counted (`pg_stat_statements`, where each row of an executemany
is one; transactions that wrote by their ids), which includes what a library sends past SQLAlchemy.

**The same rows:** the comparisons write the run's update, attempt, verdict, events with hashes, head and outbox by the
same code of the store (`bench/rows.py`), without our rules. DBOS has a workflow a run, one transaction of its
datasource a boundary and a step between two; Procrastinate has a job a step, which starts it in one transaction and,
in another, ends it and inserts the next job. The runs' rows are opened before anybody's time begins; telling the
worker of all of them (waking, inserting first jobs, starting workflows) is within it. DBOS on SQLite is not measured
at 64: its writers then wait for one another beyond its patience.
""".strip()


@dataclass(frozen=True, slots=True)
class Demand:
    """One requirement, and what was found."""

    what: str
    found: str
    met: bool


def demands(figures: Mapping[str, Figures]) -> Iterator[Demand]:
    """Every requirement that can be checked with these figures."""
    for place, found in figures.items():
        plain = [each for each in _boundaries(found) if each.kind == PLAIN]
        most, commits = max(len(each.statements) for each in plain), _commits_a_boundary(found)
        what = f"{place}: a boundary without secrets or egress sends at most {MOST_STATEMENTS} statements"
        yield Demand(what, str(most), most <= MOST_STATEMENTS)
        what = f"{place}: at most {MOST_COMMITS} commits a boundary, with all that is written around it"
        yield Demand(what, f"{commits:.2f}", commits <= MOST_COMMITS)
        ratio = statistics.median(found.waits.steps_s) / statistics.median(found.floor_s)
        what = f"{place}: from step to step in less than {OVER_FLOOR:g} bare commits (medians)"
        yield Demand(what, f"{ratio:.2f}", ratio < OVER_FLOOR)
        yield from _faster(place, found, PERSTEP, OVER_PERSTEP)
        if place == "Postgres":
            yield from _faster(place, found, DBOS, OVER_DBOS)


def _faster(place: str, found: Figures, other: str, times: float) -> Iterator[Demand]:
    ours, theirs = found.steps_a_second(OURS, COMPARED_AT), found.steps_a_second(other, COMPARED_AT)
    if ours is not None and theirs is not None:
        what = f"{place}: at {COMPARED_AT} runs at least {times:g} times the steps a second of {other}"
        yield Demand(what, f"{ours / theirs:.2f}", ours >= times * theirs)


def _samples(found: Figures, name: str) -> list[Sample]:
    return [sample for (who, _), samples in found.batches.items() if who == name for sample in samples]


def _boundaries(found: Figures) -> list[Transaction]:
    return [each for sample in _samples(found, OURS) for each in sample.counter.boundaries]


def _commits_a_boundary(found: Figures) -> float:
    """What Postgres counted where it can, for a wake-up is a job, and a job is a row."""
    samples = _samples(found, OURS)
    counted = [each.server_commits for each in samples if each.server_commits is not None]
    commits = sum(counted) if counted else sum(each.counter.write_commits for each in samples)
    return commits / len(_boundaries(found))


def write(figures: Mapping[str, Figures], machine: Mapping[str, str], how: str) -> str:
    """The whole page."""
    parts = [
        "# Benchmarks",
        "Written by `make bench`; do not edit. " + how,
        _table(("", ""), [(f"**{name}**", value) for name, value in machine.items()]),
        "## Requirements",
        _table(
            ("requirement", "found", ""),
            [(each.what, each.found, "PASS" if each.met else "**FAIL**") for each in demands(figures)],
        ),
        "## How to read this",
        HOW_TO_READ,
        "## Waits, p50 / p99 in ms",
        _table(("", *figures), list(_waits(figures))),
        "## Steps a second",
        *_flat(_speed(place, found) for place, found in figures.items()),
        "## Statements and commits a step",
        *_flat(_costs(place, found) for place, found in figures.items()),
        "## Statements of a boundary",
        *_flat(_distribution(place, found) for place, found in figures.items()),
        "## What a VM of its own costs a step",
        "Measured by `make bench-vm`: [benchmarks-vm.md](benchmarks-vm.md).",
    ]
    return "\n\n".join(parts) + "\n"


def _flat(parts: Iterator[list[str]]) -> list[str]:
    return [part for each in parts for part in each]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _waits(figures: Mapping[str, Figures]) -> Iterator[tuple[str, ...]]:
    found = figures.values()
    yield ("a bare commit of one small row (the floor)", *(_percentiles(each.floor_s) for each in found))
    yield ("alert accepted → first step begins", *(_percentiles(each.waits.first_s) for each in found))
    yield ("a step ends → the next begins", *(_percentiles(each.waits.steps_s) for each in found))
    yield ("click → the resumed step begins", *(_percentiles(each.waits.click_s) for each in found))


def _percentiles(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49] * 1000:.1f} / {cuts[98] * 1000:.1f} (n={len(seconds)})"


def _names(found: Figures) -> list[str]:
    return list(dict.fromkeys(name for name, _ in found.batches))


def _sizes(found: Figures) -> list[int]:
    return sorted({at_once for _, at_once in found.batches})


def _speed(place: str, found: Figures) -> list[str]:
    rows = []
    for name in _names(found):
        speeds = [found.steps_a_second(name, at_once) for at_once in _sizes(found)]
        rows.append((name, *("not measured" if speed is None else f"{speed:.0f}" for speed in speeds)))
    return [f"{place}, by runs at once:", _table(("", *map(str, _sizes(found))), rows)]


def _costs(place: str, found: Figures) -> list[str]:
    rows = []
    for name in _names(found):
        samples = _samples(found, name)
        steps = sum(each.steps for each in samples)
        shared = [each for each in samples if each.server_statements is not None]
        rows.append(
            (
                name,
                f"{sum(each.counter.statements for each in samples) / steps:.1f}",
                f"{sum(each.counter.rows for each in samples) / steps:.1f}",
                f"{sum(each.counter.write_commits for each in samples) / steps:.2f}",
                f"{sum(each.server_statements or 0 for each in shared) / steps:.1f}" if shared else "",
                f"{sum(each.server_commits or 0 for each in shared) / steps:.2f}" if shared else "",
                f"{sum(each.cpu_s for each in samples) / steps * 1000:.1f}",
            )
        )
    head = ("", "statements", "rows written", "commits that wrote", "statements on the server", "commits on the server")
    return [f"{place}, all batches together:", _table((*head, "ms of CPU, the client's"), rows)]


def _distribution(place: str, found: Figures) -> list[str]:
    by_kind: dict[str, list[Transaction]] = defaultdict(list)
    for each in _boundaries(found):
        by_kind[each.kind].append(each)
    total = sum(map(len, by_kind.values()))
    rows = []
    for kind, found_of in sorted(by_kind.items(), key=lambda item: (item[0] != PLAIN, item[0])):
        sizes = sorted(len(transaction.statements) for transaction in found_of)
        written = statistics.mean(transaction.rows for transaction in found_of)
        middle = f"{statistics.median(sizes):g}"
        rows.append((kind, f"{len(found_of) / total:.0%}", str(sizes[0]), middle, str(sizes[-1]), f"{written:.1f}"))
    return [f"{place}:", _table(("boundary", "share", "fewest", "median", "most", "rows written"), rows)]


def batches() -> str:
    """How large the batches are, in words."""
    return ", ".join(f"{runs} runs at {at_once} at once" for at_once, runs in RUNS.items())
