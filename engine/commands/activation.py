"""`signalbox runbook activate`: which edition of a runbook may start. On Postgres run it as the owner of the tables."""

from __future__ import annotations

import getpass

import click

from engine import wiring
from engine.coordination.activation import must_be_activated
from engine.domain.errors import BadInput, Refused
from engine.domain.incident import Person
from engine.domain.runbook import Snapshot
from engine.orchestration.adapters import SystemClock
from engine.proving import proved
from engine.runbooks import comparison
from engine.runbooks.comparison import State
from engine.runbooks.shelf import Shelf
from engine.settings import Settings, load
from engine.store import activations, models
from engine.store.session import Database


def activated_state(values: Settings, name: str) -> State:
    """The edition that was activated last; raises BadInput when none was."""
    with wiring.reading(values) as session:
        row = activations.newest(session, name)
        if row is None:
            raise BadInput(f"runbook {name} was never activated", f"signalbox runbook activate {name}")
        return _state(row)


def _state(row: models.Activation) -> State:
    called = f"{row.by_name or row.by} activated it on {row.at:%Y-%m-%d %H:%M} UTC"
    return State(called, row.source, activations.files_of(row))


@click.command("activate")
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every runbook that is there.")
@click.option("--off", is_flag=True, help="Take it back: nothing starts the runbook any more.")
@click.option("--reason", default="", help="Why; whoever is told of it is shown this.")
def activate(names: tuple[str, ...], every: bool, off: bool, reason: str) -> None:
    """Let runbooks be started exactly as they are now; without a name, say how each stands.

    What is proved first: lint accepts it, and each of its gates was seen green and red (`runbook test`). Any later
    change of the YAML or of a file in its folder takes the activation away by itself: the alert still opens an
    incident, and nothing starts.
    """
    values = load()
    shelf = wiring.known_shelf(values)
    chosen = shelf.names() if every else names
    with wiring.known_database(values) as database:
        if not chosen:
            for name in shelf.names():
                click.echo(f"{name}: {_stands(database, shelf, name)}")
        elif off:
            for name in chosen:
                click.echo(_deactivated(database, name, reason[:500]))
        else:
            snapshots = [shelf.read(name) for name in chosen]  # all of them, or none
            for snapshot in snapshots:
                _must_be_proved(snapshot)
            for snapshot in snapshots:
                click.echo(_activated(database, snapshot, reason[:500]))


def _person() -> Person:
    return Person(id=f"cli:{getpass.getuser()}", name=getpass.getuser())


def _activated(database: Database, snapshot: Snapshot, reason: str) -> str:
    with database.transaction() as session:
        before = activations.newest(session, snapshot.runbook.name)
        told = _told(before, snapshot)
        activations.add(session, snapshot, person=_person(), reason=reason, now=SystemClock().now())
    return told


def _deactivated(database: Database, name: str, reason: str) -> str:
    with database.transaction() as session:
        row = activations.newest(session, name)
        if row is None or not row.on:
            return f"{name}: is not activated"
        activations.withdraw(session, row, person=_person(), reason=reason, now=SystemClock().now())
    return f"{name}: deactivated; its alerts open incidents, and start nothing"


def _must_be_proved(snapshot: Snapshot) -> None:
    wrong = proved(snapshot)
    if wrong:
        name = snapshot.runbook.name
        raise BadInput(f"{name} is not proved: " + "; ".join(wrong), f"signalbox runbook test {name}")


def _told(before: models.Activation | None, snapshot: Snapshot) -> str:
    line = f"{snapshot.runbook.name}: activated as {snapshot.digest[:19]}"
    if before is None or not before.on or before.digest == snapshot.digest:
        return line
    difference = comparison.tell(_state(before), State("now", snapshot.source, snapshot.files))
    return "\n".join([line, *(f"  {text}" for text in difference.splitlines())])


def _stands(database: Database, shelf: Shelf, name: str) -> str:
    """How one stands; one that does not read says so, and does not hide the others."""
    try:
        snapshot = shelf.read(name)
        with database.reading() as session:
            row = must_be_activated(session, snapshot)
    except (BadInput, Refused) as error:
        return f"{error}\n  -> {error.remedy}"
    return f"activated by {row.by_name or row.by} on {row.at:%Y-%m-%d %H:%M} UTC as {row.digest[:19]}"
