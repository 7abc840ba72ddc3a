"""`python -m bench`: measure, and write docs/benchmarks.md. `make bench` installs what it needs first."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

import click
import structlog

from bench import machine, measuring, report
from bench.contenders import Ours, PerStep
from bench.durable import Durable
from tests.services.postgres import Postgres

MOST_OF_DBOS_ON_SQLITE = 16
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@click.command()
@click.option("--rounds", default=5, show_default=True, help="how often everybody has a turn")
@click.option("--alerts", default=12, show_default=True, help="alerts a round whose waits are measured")
@click.option("--out", type=click.Path(path_type=Path), default=PAGE, show_default=True, help="where the report goes")
def main(rounds: int, alerts: int, out: Path) -> None:
    """Measure what coordination costs; exits with 1 when a requirement is not met."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    begun, load = time.monotonic(), machine.load()
    durable = Postgres.started(fsync=True, preload="pg_stat_statements")
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder, durable as server:
        places = _places(Path(folder), server)
        described = machine.described(Path(folder), places[1].url)
        figures = measuring.measure(places, rounds, alerts, print)
    minutes = (time.monotonic() - begun) / 60
    how = (
        f"{rounds} rounds in {minutes:.0f} minutes; {report.batches()}. Load of the machine before {load}, "
        f"after {machine.load()}: it is not only ours, so compare within a row, not with another day."
    )
    out.write_text(report.write(figures, described, how))
    failed = False
    for demand in report.demands(figures):
        failed = failed or not demand.met
        print(f"{'PASS' if demand.met else 'FAIL'}  {demand.what}: {demand.found}")
    print(f"written: {out}")
    sys.exit(failed)


def _places(folder: Path, server: Postgres) -> tuple[measuring.Place, ...]:
    def file(name: str) -> str:
        return f"sqlite:///{folder / name}.db"

    sqlite = (Ours(file("ours")), Durable(file("dbos"), most=MOST_OF_DBOS_ON_SQLITE))
    postgres = (Ours(server.new_database()), PerStep(server.new_database()), Durable(server.new_database()))
    return (
        measuring.Place("SQLite", file("waits"), sqlite),
        measuring.Place("Postgres", server.new_database(), postgres),
    )


if __name__ == "__main__":
    main()
