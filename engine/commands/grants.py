"""`signalbox grants`: what every runbook may touch, for whoever answers for security; and what a change widens."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import click

from engine.domain.errors import BadInput
from engine.domain.runbook import Runbook
from engine.runbooks import permissions, revision
from engine.runbooks.permissions import Permission
from engine.runbooks.shelf import Shelf, shaped
from engine.settings import load


@click.command("grants")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one object a permission.")
@click.option("--diff", "since", metavar="REVISION", help="Only what changed since; exit code 1 when anything widened.")
def grants(as_json: bool, since: str | None) -> None:
    """List every host and port, secret, target and login user that a runbook's steps and verifiers may use."""
    shelf = Shelf(load().runbooks)
    now = [row for name in shelf.names() for row in permissions.of(shelf.draft(name))]
    if since is None:
        click.echo(_json(now) if as_json else permissions.table(now))
        return
    before = []
    for name in revision.names(shelf.folder, since):
        source, _ = revision.texts(shelf.folder, name, since)
        before += list(permissions.of(_then(source, f"{name}.yaml of {since}")))
    change = permissions.compare(before, now)
    if as_json:
        rows = {"wider": change.wider, "narrower": change.narrower}
        click.echo(json.dumps({key: [row.as_json() for row in found] for key, found in rows.items()}, indent=1))
    else:
        _tell("wider", "+", change.wider)
        _tell("narrower", "-", change.narrower)
    if change.wider:
        sys.exit(1)


def _then(source: str, where: str) -> Runbook:
    try:
        return shaped(source, where)[1]
    except BadInput as error:
        raise BadInput(f"{error}", "that revision does not read: compare with another") from None


def _tell(word: str, sign: str, rows: Iterable[Permission]) -> None:
    lines = permissions.table(rows).splitlines()
    if len(lines) == 1:
        click.echo(f"nothing is {word}")
        return
    click.echo(f"{word}:\n  {lines[0]}")
    for line in lines[1:]:
        click.echo(f"{sign} {line}")


def _json(rows: Iterable[Permission]) -> str:
    return json.dumps([row.as_json() for row in rows], indent=1)
