"""`signalbox simulate`: every path of a runbook, on the real machine, before an alert takes one."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import click
import structlog

from engine.commands.table import table
from engine.domain.errors import BadInput
from engine.domain.runbook import Snapshot
from engine.proving import examples
from engine.runbooks.shelf import Shelf
from engine.settings import load
from engine.simulation import report
from engine.simulation.explore import MOST_CHOICES, Exploration, simulate

SILENT = 50
SHOWN = 20
GRAPHS = {"text": report.as_text, "dot": report.as_dot, "mermaid": report.as_mermaid}


@click.command("simulate")
@click.argument("runbook")
@click.option("--input", "given", multiple=True, metavar="NAME=VALUE", help="An input. [default: as in its tests.yaml]")
@click.option(
    "--most",
    type=click.IntRange(min=1),
    default=MOST_CHOICES,
    show_default=True,
    help="So many choices at most are looked at.",
)
@click.option("--graph", type=click.Choice(sorted(GRAPHS)), help="All paths as one graph, instead of the table.")
@click.option("--json", "as_json", is_flag=True, help="Every path, as JSON.")
def simulate_command(runbook: str, given: tuple[str, ...], most: int, graph: str | None, as_json: bool) -> None:
    """Play through every path of RUNBOOK: steps and gates that end in every way, people, the source, time, crashes.

    The machine is the real one, in memory; VMs, gates and people are played. On every path it is watched from outside
    that no target changes without a held gate before it, nothing protected without approval and tested content, and
    that the path ends or asks a person. Anything else is told with its path, and the exit code is 1.
    """
    snapshot = Shelf(load().runbooks).read(runbook)
    inputs = _inputs(snapshot, given)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(SILENT)
    )  # it fails on purpose, all the time
    found = simulate(snapshot, inputs, most)
    for line in _told(found, graph, as_json=as_json):
        click.echo(line)
    for violation in found.violations[:SHOWN]:
        click.echo(f"UNSAFE: {violation.what}\n  after: {' -> '.join(violation.path)}", err=True)
    if len(found.violations) > SHOWN:
        click.echo(f"UNSAFE: and {len(found.violations) - SHOWN} times more", err=True)
    if found.left:
        click.echo(f"cut after {len(found.edges)} choices: {found.left} places were not looked at (--most)", err=True)
    if found.violations or found.left:
        sys.exit(1)


def _inputs(snapshot: Snapshot, given: tuple[str, ...]) -> Mapping[str, str]:
    """A value for each input: as given, as in its tests.yaml, or the first that it may take."""
    rules = {rule.name: rule for rule in snapshot.runbook.inputs}
    found = {name: rule.enum[0] for name, rule in rules.items() if rule.enum}
    if examples.FILE in snapshot.files:
        found |= examples.read(snapshot).inputs
    for pair in given:
        name, _, value = pair.partition("=")
        if name not in rules or not rules[name].takes(value):
            raise BadInput(f"{pair[:80]!r} is no value of an input", f"inputs: {', '.join(rules) or 'none'}")
        found[name] = value
    missing = rules.keys() - found.keys()
    if missing:
        raise BadInput(
            f"no value for {', '.join(sorted(missing))}", "add --input NAME=VALUE, or `inputs` in tests.yaml"
        )
    return found


def _told(found: Exploration, graph: str | None, *, as_json: bool) -> Iterator[str]:
    if graph is not None:
        yield from GRAPHS[graph](found)
        return
    rows = report.rows(found)
    if as_json:
        told = {"runbook": found.runbook, "paths": [asdict(row) for row in rows], "left": found.left}
        yield json.dumps(told | {"unsafe": [asdict(violation) for violation in found.violations]}, indent=2)
        return
    yield from table(report.HEAD, [_cells(row) for row in rows])
    ends = Counter(row.came_to for row in rows if row.goes_on_as is None)
    yield f"\nended: {', '.join(f'{end} {times}' for end, times in ends.most_common())}"
    outcome = "nothing unsafe" if not found.violations else f"{len(found.violations)} times unsafe"
    yield f"{found.runbook}: {len(rows)} paths over {len(found.nodes)} places, {len(found.edges)} choices; {outcome}"


def _cells(row: report.Row) -> tuple[object, ...]:
    return row.number, row.came_to, row.goes_on_as or "", row.changed, row.asked, row.what
