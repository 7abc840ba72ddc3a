"""`signalbox ...`: the commands that need no bot. `bot.main` adds `up` and runs this."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import requests
import structlog
from pydantic import SecretStr

from engine import wiring
from engine.commands.database import database
from engine.commands.evidence import evidence
from engine.commands.grants import grants
from engine.commands.group import Commands
from engine.commands.image import image_group
from engine.commands.kill_switch import kill_switch
from engine.commands.model import model_group
from engine.commands.runbook import runbook
from engine.commands.simulate import simulate_command
from engine.commands.vm import vm_group
from engine.domain.errors import BadInput
from engine.orchestration.adapters import SystemClock
from engine.runbooks.shelf import Shelf
from engine.secrets import setup
from engine.secrets.admin import Administrator
from engine.secrets.embedded import EmbeddedBao
from engine.settings import PREFIX, Settings, load
from engine.store import migrate as migrations
from engine.store import views
from engine.store.session import Database, Session

log = structlog.get_logger()

PASSWORD = re.compile(r"(://[^/?#]*?):[^/?#]*(?=@)|([?&]password)=[^&#]*")
""" In a URL: before the host, or as a parameter as Postgres takes it. """
NOTED = 500
""" How many incidents `harness list` looks through. """


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="signalbox")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def cli(verbose: bool) -> None:
    """Incident automation in which an unsafe move is mechanically impossible."""
    level = 10 if verbose else 20
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
    )


def _database() -> Database:
    """The database in force, in a home that is ours alone."""
    values = load()
    wiring.make_home(values)
    return Database(values.database)


@cli.command()
def migrate() -> None:
    """Bring the database to this release's revision. Repeatable; run it before every start."""
    database = _database()
    migrations.upgrade(database)
    click.echo(f"{database.dialect} is at revision {migrations.current(database)}")
    database.close()


@cli.command()
@click.option("--pool", help="Drive the runs of this pool. [default: SIGNALBOX_POOL]")
@click.option("--concurrency", type=click.IntRange(1, 64), help="How many at once. [default: SIGNALBOX_WORKERS]")
def worker(pool: str | None, concurrency: int | None) -> None:
    """Drive runs on a machine of its own (Postgres only). SIGTERM drains to the next step boundary."""
    values = load()
    if values.database.startswith("sqlite"):
        raise BadInput("on SQLite one process does everything, so there are no workers", "run: signalbox up")
    if not values.vault_addr:
        raise BadInput("the embedded OpenBao serves one process only", "set SIGNALBOX_VAULT_ADDR: one Vault for all")
    chosen = values.model_copy(update={"pool": pool or values.pool, "workers": concurrency or values.workers})
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with wiring.installation(chosen) as box:
        assert box.worker is not None  # noqa: S101 - `installation` makes one unless told otherwise
        box.worker.start()
        box.hypervisor.keep_warm()
        log.info("worker is up", worker=box.worker.claim.id, pool=chosen.pool, concurrency=chosen.workers)
        stopping.wait()
        log.info("draining to the next step boundary", at_most_s=chosen.drain_s)
        box.worker.stop(chosen.drain_s)
        log.info("worker is down")


@cli.command()
def settings() -> None:
    """Every setting: its environment variable, what is in force, what it is for.

    Any of them may be given as NAME_FILE instead: the value is then read from that file. Give secrets so.
    """
    try:
        values = load()
    except BadInput:
        for name, field in Settings.model_fields.items():
            click.echo(f"{PREFIX}{name.upper()}   # {field.description}")
        raise
    for name, field in Settings.model_fields.items():
        click.echo(f"{PREFIX}{name.upper()}={_shown(getattr(values, name))}   # {field.description}")


def _shown(value: object) -> str:
    """A setting as it would be given, with nothing in it that is secret."""
    match value:
        case None:
            return ""
        case SecretStr():
            return "(set, hidden)"
        case tuple():
            return " ".join(map(str, value))
    return PASSWORD.sub(lambda found: f"{found[1]}:(hidden)" if found[1] else f"{found[2]}=(hidden)", str(value))


# -- alerts


@cli.group(cls=Commands)
def alert() -> None:
    """Send an alert by hand."""


@alert.command("send")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--source", default="alertmanager", show_default=True)
def alert_send(file: Path, source: str) -> None:
    """Post FILE to the running Signalbox, as the source itself would."""
    values = load()
    tokens = values.alertmanager_token.get_secret_value().split() if values.alertmanager_token else []
    if not tokens:
        raise BadInput("there is no token that an alert could be sent with", "set SIGNALBOX_ALERTMANAGER_TOKEN_FILE")
    url = f"http://{values.listen}/alerts/{source}"
    headers = {"Authorization": f"Bearer {tokens[0]}", "Content-Type": "application/json"}
    try:
        answer = requests.post(url, data=file.read_bytes(), headers=headers, timeout=30, allow_redirects=False)
    except requests.RequestException as error:
        raise BadInput(f"nobody answers at {url} ({type(error).__name__})", "start it: signalbox up") from None
    click.echo(f"{answer.status_code} {answer.text.strip()}")
    if not answer.ok:
        sys.exit(1)


# -- secrets


@cli.group("secrets", cls=Commands)
def secrets_group() -> None:
    """Do what an administrator of Vault does: policies and secrets.

    For a Vault of your own your token is read from $VAULT_TOKEN; the embedded OpenBao needs none.
    """


def _administrator(values: Settings) -> Administrator:
    # from the environment only: everybody on the machine can read the arguments of a process
    token = os.environ.get("VAULT_TOKEN", "")
    clock = SystemClock()
    if values.vault_addr:
        return Administrator(wiring.external_vault(values), clock, token=token)
    bao = EmbeddedBao(wiring.make_home(values) / "openbao")
    if not bao.is_running():
        raise BadInput("the embedded OpenBao does not run", "start it: signalbox up")
    return Administrator(bao.connection(), clock, password=bao.admin_password())


@secrets_group.command("plan")
@click.option("--apply", "carry_out", is_flag=True, help="Carry the plan out.")
def secrets_plan(carry_out: bool) -> None:
    """Show which policies the runbooks need and Vault lacks; --apply writes them."""
    values = load()
    shelf = Shelf(values.runbooks)
    books = [shelf.read(name).runbook for name in shelf.names()]
    with _administrator(values) as administrator:
        plan = administrator.plan(books)
        for line in plan.lines:
            click.echo(line)
        if carry_out:
            administrator.apply(plan)
            click.echo("applied")


@secrets_group.command("setup")
@click.option("--for", "tool", type=click.Choice(["bao", "vault"]), default="bao", show_default=True)
def secrets_setup(tool: str) -> None:
    """Print the shell script that prepares an existing Vault or OpenBao: mount, login, policies, token roles."""
    click.echo(setup.script(tool), nl=False)


@secrets_group.command("put")
@click.argument("path")
@click.argument("fields", nargs=-1, required=True, metavar="NAME=@FILE...")
def secrets_put(path: str, fields: tuple[str, ...]) -> None:
    """Write a secret: each field from a file (NAME=@FILE), never from the command line, where everybody can read it."""
    content = {}
    for pair in fields:
        name, _, source = pair.partition("=")
        if not name or not source.startswith("@"):
            # what was typed instead may be the secret itself: it is not repeated
            raise BadInput("a field is given as NAME=@FILE", "write the value into a file of mode 0600 first")
        try:
            content[name] = Path(source[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise BadInput(f"cannot read {source[1:]}: {why}", "fix the path, or encode it as base64") from None
    with _administrator(load()) as administrator:
        administrator.put(path, content)
    click.echo(f"wrote {path}")


# -- the database by hand: the kill switch, incidents, the harness


@contextlib.contextmanager
def _reading() -> Iterator[Session]:
    """One look at the database."""
    with wiring.reading(load()) as session:
        yield session


@cli.group(cls=Commands)
def incident() -> None:
    """Look at incidents."""


@incident.command("list")
@click.option("--json", "as_json", is_flag=True)
def incident_list(as_json: bool) -> None:
    """Incidents, newest first."""
    with _reading() as session:
        rows = views.summaries(session, only_open=False, limit=50)
    if as_json:
        click.echo(
            json.dumps([{"number": r.number, "title": r.title, "state": r.state, "run": r.run_state} for r in rows])
        )
        return
    for row in rows:
        waits = f"  waits for {row.waits_for}" if row.waits_for else ""
        click.echo(f"INC-{row.number}  {row.state:<7} {row.run_state or 'no run':<18} {row.title}{waits}")


@cli.group(cls=Commands)
def harness() -> None:
    """Read harness notes: what an incident taught, as a patch."""


@harness.command("list")
def harness_list() -> None:
    """Harness notes of the newest incidents: number, incident, rule."""
    with _reading() as session:
        for row in views.summaries(session, only_open=False, limit=NOTED):
            for note in views.notes(session, row.number):
                rule = "".join(letter if letter.isprintable() else " " for letter in note.rule)
                click.echo(f"{note.id}  INC-{row.number}  {rule[:100]}")


@harness.command("show")
@click.argument("number", type=int)
def harness_show(number: int) -> None:
    """Print the patch of harness note NUMBER; apply it with `git apply` on a branch, after reading it."""
    with _reading() as session:
        note = views.note_by_id(session, number)
    if note is None:
        raise BadInput(f"there is no harness note {number}", "signalbox harness list")
    if not note.patch:
        raise BadInput(f"harness note {number} came without a patch", "the incident's page says why")
    click.echo(note.patch, nl=False)


for command in (database, evidence, grants, image_group, kill_switch, model_group, runbook, simulate_command, vm_group):
    cli.add_command(command)
