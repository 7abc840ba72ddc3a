"""`signalbox kill-switch`: thrown on the database itself, so it works when Slack or Signalbox is down."""

from __future__ import annotations

import getpass

import click

from engine import wiring
from engine.coordination import stopping
from engine.domain.incident import Person
from engine.orchestration.adapters import SystemClock
from engine.settings import load
from engine.store import switch


@click.command("kill-switch")
@click.argument("turn", default="status", type=click.Choice(["on", "off", "status"]))
@click.option("--reason", default="", help="Why; everybody is shown it.")
def kill_switch(turn: str, reason: str) -> None:
    """Stop everything, let things go on again, or say how it stands (the default).

    On: nothing starts, and what runs is stopped within seconds. It works on the database itself, so also when Slack or
    Signalbox is down. Whoever can write the database may do this: nothing else is asked.
    """
    name = getpass.getuser()
    with wiring.known_database(load()) as database:
        if turn != "status":
            with database.transaction() as session:
                person = Person(id=f"cli:{name}", name=name)
                now = SystemClock().now()
                stopping.throw(session, on=turn == "on", person=person, reason=reason, now=now)
        with database.reading() as session:
            stands = switch.read(session)
    who = f", since {stands.at:%Y-%m-%d %H:%M} UTC by {stands.by.name or stands.by.id}" if stands.by else ""
    click.echo(f"{'on' if stands.on else 'off'}{who}" + (f": {stands.reason}" if stands.reason else ""))
