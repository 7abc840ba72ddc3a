"""`signalbox database ...`: what the owner of the tables does besides `signalbox migrate`."""

from __future__ import annotations

import click
import sqlalchemy as sa

from engine.commands.group import Commands
from engine.settings import load
from engine.store import grants


@click.group(cls=Commands)
def database() -> None:
    """Look after the database."""


@database.command("grants")
@click.option("--bot", default=grants.BOT, show_default=True, help="The role of `signalbox web`.")
@click.option("--worker", default=grants.WORKER, show_default=True, help="The role of `signalbox worker`.")
@click.option("--database", "name", help="Its name on the server. [default: that of SIGNALBOX_DATABASE_URL]")
def database_grants(bot: str, worker: str, name: str | None) -> None:
    """Print the SQL that gives the bot and the worker each what they need on Postgres; pipe it to psql as the owner."""
    url = sa.engine.make_url(load().database)
    of_url = url.database if url.get_backend_name() == "postgresql" else None
    click.echo(grants.script(bot=bot, worker=worker, database=name or of_url or "signalbox"), nl=False)
